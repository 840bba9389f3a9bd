//! A whole boot: the product's kernel and agent, until the agent says that it serves.
//!
//! One run only: where KVM interprets the guest's kernel it takes many seconds, and the number of instructions, which
//! hardly varies, says more than they do.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::monitor::Host;
use crate::progress;

/// Where the agent tells the host that it serves: the socket's name is the guest's port.
const READY_SOCKET: &str = "vsock.sock_1023";
pub(super) const MEMORY_MIB: u32 = 128;
const DEADLINE: Timespec = Timespec { tv_sec: 600, tv_nsec: 0 };

pub(super) struct Boot {
    pub(super) duration: Duration,
    /// What KVM executed in the processor's stead; not every KVM counts.
    pub(super) emulated_instructions: Option<u64>,
}

/// `None` where no kernel has been built.
pub(super) fn measure(host: &Host) -> anyhow::Result<Option<Boot>> {
    let Some((prepared, state)) = host.prepare_agent(MEMORY_MIB)? else { return Ok(None) };
    progress::heading("one boot until the agent serves");
    let ready = UnixListener::bind(state.join(READY_SOCKET)).context("cannot listen for the agent")?;
    let begun = Instant::now();
    let (machine, _console) = prepared.spawn()?;
    let mut called = [PollFd::new(&ready, PollFlags::IN)];
    if poll(&mut called, Some(&DEADLINE)).context("cannot wait for the agent")? == 0 {
        bail!("no agent within {} s", DEADLINE.tv_sec);
    }
    let duration = begun.elapsed();
    let counters: Value = serde_json::from_str(&machine.ask(&json!({ "request": "counters" }))?)?;
    let emulated_instructions = counters["vcpus"][0]["emulated_instructions"].as_u64();
    Ok(Some(Boot { duration, emulated_instructions }))
}
