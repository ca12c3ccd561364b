//! `tokenizer` of the model loaders; the checks are in crates/model/src/fuzz.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| outcrop_model::fuzz::tokenizer(data));
