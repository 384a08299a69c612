//! The `lorascope` command.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;

mod advice;
mod bench;
mod data;
mod data_rows;
mod data_split;
mod help;
mod spectrum;
mod spectrum_left_alone;
mod train;
