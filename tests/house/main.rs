#[path = "../common/mod.rs"]
mod common;

mod architecture;
mod layout;
mod prelude;
mod tours;
