//! Singular values of B·A, subspaces, their pictures.

#[path = "../common/mod.rs"]
mod common;

mod large_ranks;
mod measures;
mod plots;
mod subspace;
