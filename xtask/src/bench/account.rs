//! What a daemon and all it started cost the host so far: processor time, and bytes written.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;
use std::time::Duration;

use anyhow::Context;

/// Of a process and its descendants, those included that have ended and were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Account {
    pub(super) cpu: Duration,
    /// The part of it that went into executing guests without the processor's help.
    pub(super) emulation: Duration,
    /// Caused to be written to disks, whether it got there yet or not.
    pub(super) written_bytes: u64,
}

/// One process, as proc_pid_stat(5) tells.
struct Process {
    parent: u32,
    ticks: u64,
    is_emulator: bool,
}

/// The beginning of its program's name.
const EMULATOR: &str = "qemu-system";

/// utime, stime, cutime and cstime, counted from the field after the program's name, which is the second.
const TIMES: std::ops::Range<usize> = 11..15;
const PARENT: usize = 1;
/// `sysconf(_SC_CLK_TCK)` is this wherever Linux runs on our processors (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

impl Account {
    /// Of the process of that id.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        Self::of_families(pid, |_command_line| false)
    }

    /// Of that process, of all whose command line is one of `others`, and of their descendants.
    ///
    /// # Errors
    /// The former is gone.
    pub(super) fn of_families(pid: u32, others: impl Fn(&str) -> bool) -> anyhow::Result<Self> {
        let processes = processes();
        let mut family = vec![pid];
        family.extend(processes.keys().filter(|other| **other != pid && others(&command_line(**other))));
        let mut next = 0;
        while let Some(&member) = family.get(next) {
            for (child, _) in processes.iter().filter(|(_, process)| process.parent == member) {
                if !family.contains(child) {
                    family.push(*child);
                }
            }
            next += 1;
        }
        processes.get(&pid).with_context(|| format!("process {pid} is gone"))?;
        let family: Vec<(u32, &Process)> =
            family.iter().filter_map(|pid| Some((*pid, processes.get(pid)?))).collect();
        let time = |of: fn(&Process) -> bool| {
            let ticks: u64 =
                family.iter().filter(|(_, process)| of(process)).map(|(_, process)| process.ticks).sum();
            Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
        };
        let written_bytes = family.iter().filter_map(|(pid, _)| written_bytes(*pid)).sum();
        Ok(Self { cpu: time(|_| true), emulation: time(|process| process.is_emulator), written_bytes })
    }
}

impl Sub for Account {
    type Output = Self;

    /// A process that ended without being waited for takes its account with it: nothing is less than nothing.
    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            emulation: self.emulation.saturating_sub(earlier.emulation),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
}

fn processes() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

fn parse(stat: &str) -> Option<Process> {
    // The name is in parentheses and may contain some.
    let (start, rest) = stat.rsplit_once(") ")?;
    let (_pid, program) = start.split_once('(')?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let times: Option<Vec<u64>> = fields.get(TIMES)?.iter().map(|field| field.parse().ok()).collect();
    Some(Process {
        parent: fields.get(PARENT)?.parse().ok()?,
        ticks: times?.iter().sum(),
        is_emulator: program.starts_with(EMULATOR),
    })
}

fn written_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let stat = "42 (a) b) S 7 1 1 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 500";
        let process = parse(stat).unwrap();
        assert_eq!((process.parent, process.ticks, process.is_emulator), (7, 127, false));
        assert!(parse(&stat.replace("a) b", "qemu-system-x86")).unwrap().is_emulator);
    }

    #[test]
    fn children_that_ended_are_in_the_account() {
        let before = Account::of(std::process::id()).unwrap();
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        std::process::Command::new("sh").args(["-c", busy]).status().unwrap();
        let spent = Account::of(std::process::id()).unwrap() - before;
        assert!(spent.cpu > Duration::ZERO, "{spent:?}");
    }
}
