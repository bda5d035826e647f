#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ztmon_fuzz::names::run(bytes));
