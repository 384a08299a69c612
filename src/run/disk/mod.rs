//! A run on disk: its folder, its snapshots, and every operation that reaches the disk.
//!
//! `runs/NAME` holds `run.json` ([`identity`]), `history.jsonl`, `journal.json`, `goal.json`, `answers.jsonl`
//! ([`folder`]), `begun-from/` ([`initial_adapters`]), `lock` ([`lock`]), and `step-000120/` for each snapshot
//! ([`snapshot`], [`tensors`]). A rewind under way has `rewind.json`, a snapshot
//! that failed its checksums is kept as `damaged-step-…`. [`operations`] has what writes them: files are replaced whole,
//! lines are appended to `history.jsonl` and `answers.jsonl`.

pub(crate) mod folder;
pub(crate) mod identity;
pub(crate) mod initial_adapters;
pub(crate) mod lock;
pub(crate) mod operations;
pub(crate) mod snapshot;
pub(crate) mod tensors;
