//! Any bytes, as a file of any name.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lorascope_fuzz::init(), |bytes: &[u8]| lorascope_fuzz::container(bytes));
