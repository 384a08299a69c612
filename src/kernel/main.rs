//! The Jupyter kernel of lorascope. evcxr evaluates the cells, jupyter-zmq-client speaks the protocol; what is here
//! joins them: outputs while a cell runs, a stop button that pauses, errors that keep the variables, and cells that
//! are compiled by one call of rustc.
//!
//! The program has four roles, which differ in how it is called:
//! - `lorascope-kernel run …`: the kernel, which Jupyter starts;
//! - as the process of the cells, which evcxr starts (`evcxr::runtime_hook`);
//! - as `cargo`, `rustup` and a wrapper of rustc, in the folder `bin` of a kernel that comes first in its `PATH`
//!   (see `stand_in`);
//! - `lorascope-kernel build | install | uninstall`: for the person who sets it up.

mod base;
mod channel;
mod cli;
mod code;
mod commands;
mod complete;
mod ending;
mod evaluate;
mod files;
mod history;
mod lost;
mod messages;
mod outputs;
mod paths;
mod problems;
mod queue;
mod requests;
mod server;
mod stand_in;
mod stock;
mod waiting;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os("EVCXR_IS_RUNTIME").is_some() {
        // evcxr asks for backtraces; an error of candle would print one.
        // SAFETY: no other thread has begun.
        unsafe { std::env::remove_var("RUST_BACKTRACE") };
        evcxr::runtime_hook();
    }
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    match name {
        "cargo" => stand_in::cargo(&arguments),
        "rustup" => stand_in::rustup(&arguments),
        "record-rustc" => stand_in::record_rustc(&arguments),
        _ => cli::main(&arguments),
    }
}
