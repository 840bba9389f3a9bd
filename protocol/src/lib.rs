//! What crosses the boundary between `berthd` and the agent inside a machine: message types, ports, framing.
//!
//! Both ends compile against this crate and neither leaks into it: no I/O, no async, no sockets.
//! The contract itself, with the meaning of every field, is `proto/agent.proto`.

pub mod frame;
pub mod ports;
pub mod shares;

/// Messages generated from `proto/agent.proto`.
#[allow(clippy::all, clippy::pedantic, clippy::allow_attributes, unreachable_pub, reason = "generated code")]
pub mod agent {
    include!(concat!(env!("OUT_DIR"), "/berth.agent.rs"));
}

/// Raised when a change would be misread by the other side; additions do not raise it.
pub const PROTOCOL_VERSION: u32 = 1;
