//! The table of rows: its verbs, its reports, files from the hub, the datasets of the repository.

#[path = "../common/mod.rs"]
mod common;

mod generate;
mod look;
mod near;
mod open;
mod remote;
mod replaced;
mod report;
mod report_spoils;
mod steps;
mod write;
