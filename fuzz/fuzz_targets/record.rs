//! One record through every schema and container.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lorascope_fuzz::init(), |bytes: &[u8]| lorascope_fuzz::record(bytes));
