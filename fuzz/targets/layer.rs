//! Fuzzes `layer`: what is fed and what is promised stands in `hostd/src/image/fuzzing/`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| berthd::image::fuzzing::target("layer")(input));
