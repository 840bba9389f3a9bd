//! One microVM per process: memory, vCPUs and virtio devices, on KVM or on a child QEMU's software emulation.
//!
//! The library's public face is plain data, for the daemon that starts machines: what a machine is made of
//! ([`config`]), and what its control socket says ([`control`]). The process itself is `src/main.rs`.

mod boot;
mod bus;
pub mod config;
pub mod control;
mod devices;
mod event_loop;
mod kvm;
#[cfg_attr(not(test), expect(dead_code, reason = "until the accelerator is chosen in machine.rs"))]
mod kvm_machine;
mod layout;
mod machine_thread;
mod memory;
#[cfg(test)]
mod stub_guest;
mod vcpu;
mod virtio;
