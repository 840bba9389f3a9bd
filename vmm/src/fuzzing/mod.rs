//! Hostile input for everything that takes any: one function for each fuzz target.
//!
//! A target takes arbitrary bytes, plays them against the real code, and panics when a promise is broken. The
//! fuzzers in `fuzz/` call these functions, and so does the test that replays the corpus; no product has them.

mod balloon;
mod bench;
mod control;
mod files;
mod fs;
mod gateway;
mod guest_space;
mod input;
mod mmio;
mod net;
mod script;
mod simple_devices;
mod snapshot;
#[cfg(test)]
mod tests;
mod vsock;

/// A target: plays `input`, and panics if that breaks a promise.
pub type Target = fn(input: &[u8]);

/// All targets, under the names of their programs and of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("balloon", balloon::balloon),
    ("block", simple_devices::block),
    ("console", simple_devices::console),
    ("control", control::control),
    ("fs", fs::fs),
    ("gateway", gateway::gateway),
    ("kernel", files::kernel),
    ("kvm_statistics", files::kvm_statistics),
    ("machine_json", files::machine_json),
    ("mmio", mmio::registers),
    ("net", net::net),
    ("rng", simple_devices::rng),
    ("snapshot", snapshot::snapshot),
    ("vsock", vsock::vsock),
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
