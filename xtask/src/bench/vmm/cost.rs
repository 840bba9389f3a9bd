//! System calls until the guest first runs, and memory beyond the guest's own: goals 3 and 4.

use std::fs;
use std::process::Command;

use anyhow::Context;

use super::super::smaps::{self, Mapping, Memory};
use super::monitor::{Guest, Host, MEMORY_MIB, Side};
use crate::progress;

pub(super) struct Measured {
    pub(super) ours: Costs,
    pub(super) peer: Option<Costs>,
}

/// Of one monitor.
pub(super) struct Costs {
    /// `None` without strace.
    pub(super) system_calls: Option<SystemCalls>,
    /// Of everything that is mapped but the guest's memory.
    pub(super) memory: Memory,
}

/// From exec to the first KVM_RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SystemCalls {
    /// Of all threads: what others do meanwhile depends on who is scheduled when.
    pub(super) all: usize,
    /// Of the thread that runs the guest, and of the one that started it until it did.
    pub(super) leading_there: usize,
}

pub(super) fn measure(host: &Host) -> anyhow::Result<Measured> {
    progress::heading("system calls and memory of a monitor");
    let ours = costs(host, Side::Ours)?;
    let peer = if Host::has_peer() { Some(costs(host, Side::Peer)?) } else { None };
    Ok(Measured { ours, peer })
}

fn costs(host: &Host, side: Side) -> anyhow::Result<Costs> {
    let machine = host.start(side, Guest::Stub)?;
    let path = format!("/proc/{}/smaps", machine.pid());
    let maps = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let memory = beyond_guest(&maps).with_context(|| format!("no guest memory in {path}"))?;
    drop(machine);
    Ok(Costs { system_calls: system_calls(host, side)?, memory })
}

fn system_calls(host: &Host, side: Side) -> anyhow::Result<Option<SystemCalls>> {
    if Command::new("strace").arg("--version").output().is_err() {
        progress::note("no strace: system calls are not counted");
        return Ok(None);
    }
    let log = host.directory.join("strace");
    drop(host.prepare(side, Guest::Stub)?.traced(&log).start()?);
    let log = fs::read_to_string(&log)?;
    Ok(Some(calls_before_run(&log).context("the monitor never ran its guest")?))
}

/// Counts the lines of strace's that begin a call, up to the first that runs the guest.
fn calls_before_run(log: &str) -> Option<SystemCalls> {
    let lines: Vec<(&str, &str)> = log.lines().filter_map(|line| line.split_once(' ')).collect();
    let run = lines.iter().position(|(_, call)| call.contains("KVM_RUN"))?;
    let (guest_thread, _) = lines[run];
    let before = &lines[..run];
    // Thread creation: the call, or its end if it was interrupted, gives the new thread's id.
    let born = before.iter().position(|(_, call)| {
        call.contains("clone") && call.trim_end().ends_with(&format!("= {guest_thread}"))
    });
    let count = |lines: &[(&str, &str)], thread: &str| {
        lines.iter().filter(|(of, call)| *of == thread && begins(call)).count()
    };
    let of_creator = born.map_or(0, |born| count(&before[..=born], before[born].0));
    Some(SystemCalls {
        all: before.iter().filter(|(_, call)| begins(call)).count(),
        leading_there: of_creator + count(before, guest_thread),
    })
}

fn begins(call: &str) -> bool {
    !call.contains(" resumed>") && call.contains('(')
}

/// Sums up all mappings but those that lie in the guest's memory: the largest mapping's end is its end.
fn beyond_guest(maps: &str) -> Option<Memory> {
    let mappings = smaps::parse(maps);
    let guest_end = mappings.iter().max_by_key(|mapping| mapping.end - mapping.start)?.end;
    let guest_start = guest_end.checked_sub(u64::from(MEMORY_MIB) << 20)?;
    let outside = |mapping: &&Mapping| mapping.end <= guest_start || mapping.start >= guest_end;
    Some(Memory::sum(mappings.iter().filter(outside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_even_when_they_are_interrupted() {
        let log = "7 execve(\"x\") = 0\n7 read(3,  <unfinished ...>\n8 gettid() = 8\n7 <... read resumed>\"\") = 0\n\
                   7 clone3({flags=0} <unfinished ...>\n9 rseq(1) = 0\n\
                   7 <... clone3 resumed> => {parent_tid=[9]}, 88) = 9\n7 close(3) = 0\n\
                   9 ioctl(9, KVM_RUN, 0) = 0\n9 write(1) = 1\n";
        let expected = SystemCalls { all: 6, leading_there: 4 };
        assert_eq!(calls_before_run(log), Some(expected));
        assert_eq!(calls_before_run("7 execve(\"x\") = 0\n"), None);
    }

    #[test]
    fn the_guests_memory_is_left_out_in_all_its_pieces() {
        let maps = "1000-2000 rw-p 00000000 00:00 0 \nSize: 4 kB\nPss: 3 kB\nPrivate_Dirty: 2 kB\n\
                    10000000-11000000 rw-p 00000000 00:00 0\nPss: 99 kB\nPrivate_Dirty: 99 kB\n\
                    11000000-20000000 rw-p 00000000 00:00 0\nPss: 99 kB\nPrivate_Dirty: 99 kB\n\
                    20000000-20001000 rw-p 00000000 00:00 0\nPss: 1 kB\nPrivate_Dirty: 1 kB\n";
        let expected = Memory { proportional_kib: 4, private_dirty_kib: 3 };
        assert_eq!(beyond_guest(maps), Some(expected));
    }
}
