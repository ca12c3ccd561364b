//! `check` of the data readers; the checks are in crates/data/src/fuzz.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outcrop_data::fuzz::check(data));
