//! Fuzzes `gateway`: what is fed and what is promised stands in `vmm/src/fuzzing/`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| berth_vmm::fuzzing::target("gateway")(input));
