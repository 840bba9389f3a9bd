//! Hostile input for what reads images: one function for each fuzz target.
//!
//! A target takes arbitrary bytes, plays them against the real code, and panics when a promise is broken. The
//! fuzzers in `fuzz/` call these functions, and so does the test that replays the corpus; no product has them.

mod archive_script;
mod documents;
mod layer;
#[cfg(test)]
mod tests;

/// A target: plays `input`, and panics if that breaks a promise.
pub type Target = fn(input: &[u8]);

/// All targets, under the names of their programs and of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("image_archive", documents::image_archive),
    ("layer", layer::layer),
    ("layer_blob", layer::layer_blob),
    ("layer_index", layer::layer_index),
    ("manifest", documents::manifest),
];

/// The target with this name.
///
/// # Panics
/// There is none.
#[must_use]
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target).unwrap_or_else(|| panic!("there is no fuzz target {name}"))
}
