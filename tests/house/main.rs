//! What holds for the repository: layout, imports, notebooks as they are committed, the launcher.

#[path = "../common/mod.rs"]
mod common;

mod architecture;
mod launcher;
mod layout;
mod prelude;
mod tours;
