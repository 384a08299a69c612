//! The `lorascope` command: a thin command line over the library.

fn main() {}
