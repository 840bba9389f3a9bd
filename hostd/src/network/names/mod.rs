//! Messages of DNS (RFC 1035): questions of guests read, answered, and passed on to other servers.
//!
//! Knows no container and no network: who has which name is the engine's business. What is passed on, and what comes back,
//! is not taken apart.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod question;
pub mod upstream;
