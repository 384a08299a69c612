//! School problems made by rule: a dataset of any size without a download.
//!
//! The rows have the shape and the faults of BelleGroup/school_math_0.25M, and each is a pure
//! function of a seed and its number. The answers work the problem out in steps and are right.

mod chinese;
mod draft;
mod draw;
mod english;
mod heldout;
mod language;
pub mod rows;
mod talk;
mod words;
