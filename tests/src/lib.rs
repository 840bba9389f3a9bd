//! The harness of the end-to-end tests: a host with a real daemon and real machines, and clients that type commands.
//!
//! Every test has a host of its own below a temporary directory, so tests neither share state nor order. What a test
//! needs comes from the environment that `cargo xtask test` sets; without it, or without KVM or QEMU, a test says that
//! it was skipped, and why. When a host is dropped, its daemon is stopped and nothing may be left.

mod api;
mod client;
mod compose;
mod environment;
mod host;
pub mod hostile_registry;
pub mod http_server;
pub mod made_image;
pub mod name_server;
mod namespace;
mod outcome;
mod patience;
mod processes;
mod python;
pub mod registry;
mod session;
mod skopeo;

pub use api::{Api, Opened, Reply};
pub use client::{Client, Running};
pub use compose::Project;
pub use host::Host;
pub use namespace::Namespace;
pub use outcome::Outcome;
pub use patience::eventually;
pub use python::Python;
pub use session::Session;
pub use skopeo::Skopeo;
