//! One microVM per process: memory, vCPUs and virtio devices, on KVM or on a child QEMU's software emulation.
//!
//! The library's public face is plain data, for the daemon that starts machines: what a machine is made of
//! ([`config`]), and what its control socket says ([`control`]); besides, what it takes to open a network interface for
//! a [`handover`]. The process itself is [`run`].

mod boot;
mod bus;
pub mod config;
mod console_log;
pub mod control;
mod control_server;
mod device_set;
mod devices;
mod dirty_pages;
mod event_loop;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod handover;
mod heap;
mod host_files;
mod host_memory;
mod jail;
mod kvm;
mod kvm_machine;
mod kvm_statistics;
mod layout;
mod machine;
mod machine_thread;
mod memory;
mod process;
mod qmp;
mod reclaim;
mod snapshot;
mod state_dir;
#[cfg(test)]
mod stub_guest;
#[cfg(test)]
mod synthetic;
mod tcg;
mod vcpu;
mod virtio;

pub use process::{host_cpuid, run};
pub use virtio::{TapError, make_tap, open_tap};
