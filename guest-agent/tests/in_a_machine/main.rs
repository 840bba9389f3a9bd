//! The agent in a real machine, driven over vsock as the daemon drives it.
//!
//! Each test is a short story about one machine. They need a kernel, a `berth-vmm` and an initramfs with this agent, named
//! by `BERTH_TEST_KERNEL`, `BERTH_TEST_BIN_DIR` and `BERTH_TEST_INITRAMFS`; without them each says that it was skipped.

#![expect(clippy::unwrap_used, reason = "a test states its expectations with unwrap")]

mod machine;

mod archives;
mod changes;

mod client;

mod container;
mod control;

mod copies;

mod disks;

mod exec;
mod failures;
mod hostility;
mod identity;
mod isolation;
mod lifecycle;
mod limits;
mod paths;
mod privileges;
mod run;
mod share_files;
mod share_watches;
mod shares;
mod streams;
mod user_namespace;
