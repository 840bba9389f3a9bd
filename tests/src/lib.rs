//! The harness of the end-to-end tests: a host with a real daemon and real machines, and clients that type commands.
//!
//! Every test has a host of its own below a temporary directory, so tests neither share state nor order. What a test
//! needs comes from the environment that `cargo xtask test` sets; without it, or without KVM or QEMU, a test says that
//! it was skipped, and why. When a host is dropped, its daemon is stopped and nothing may be left.

mod client;
mod environment;
mod host;
mod outcome;
mod patience;

pub use client::{Client, Running};
pub use host::Host;
pub use outcome::Outcome;
pub use patience::eventually;
