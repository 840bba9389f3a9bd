//! One microVM per process: memory, vCPUs and virtio devices, on KVM or on a child QEMU's software emulation.
//!
//! The library's public face is plain data, for the daemon that starts machines: what a machine is made of
//! ([`config`]), and what its control socket says ([`control`]). The process itself is `src/main.rs`.

pub mod config;
pub mod control;
mod virtio;
