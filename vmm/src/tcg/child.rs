//! Starting a process that dies with us, whatever kills us.
#![expect(unsafe_code, reason = "what runs between fork and exec must be asked for with an unsafe call")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::sys::signal::SigSet;
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Spawns `command` so that the kernel kills it when the calling *thread* ends: call it from one that lasts as long
/// as the process.
///
/// # Errors
/// As [`Command::spawn`].
pub(super) fn spawn_bound_to_us(command: &mut Command) -> io::Result<Child> {
    let us = getpid();
    // SAFETY: the closure runs in the forked child before exec, where only async-signal-safe calls are allowed; it
    // makes three plain system calls and allocates nothing.
    unsafe { command.pre_exec(move || die_with(us)) };
    command.spawn()
}

fn die_with(parent: Pid) -> io::Result<()> {
    // The signals that we take in a thread of our own are blocked here, and would stay so.
    SigSet::empty().thread_set_mask()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before it could be watched.
    if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
}
