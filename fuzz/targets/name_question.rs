//! Fuzzes `name_question`: what is fed and what is promised stands in `hostd/src/network/names/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| berthd::network::names::fuzzing::question(input));
