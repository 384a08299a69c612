//! Any bytes, as Parquet.
#![no_main]

libfuzzer_sys::fuzz_target!(init: lorascope_fuzz::init(), |bytes: &[u8]| lorascope_fuzz::parquet(bytes));
