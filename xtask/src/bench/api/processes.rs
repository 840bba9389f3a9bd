//! What a daemon consists of on this host: which processes, their processor time and their memory.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::super::smaps::{self, Mapping, Memory};
use super::side::Side;

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// There with and without containers: berthd; dockerd and the containerd that it started.
    Daemon,
    /// The host's, one for each container: berth-vmm; a shim of containerd's.
    Keeper,
    /// Executes a guest where no processor does: QEMU.
    Emulator,
}

/// By the beginning of what /proc/PID/comm says, which is cut off after 15 bytes; the first that fits.
const PROGRAMS: [(&str, Part); 6] = [
    ("berthd", Part::Daemon),
    ("dockerd", Part::Daemon),
    ("containerd-shim", Part::Keeper),
    ("containerd", Part::Daemon),
    ("berth-vmm", Part::Keeper),
    ("qemu-system", Part::Emulator),
];

/// `USER_HZ`, which /proc counts in.
const TICK: Duration = Duration::from_millis(10);

pub(super) struct Process {
    pid: u32,
    pub(super) part: Part,
}

/// The processes of that daemon and of these containers of its own, but not the containers' programs.
pub(super) fn of(side: &Side, containers: &[String]) -> Vec<Process> {
    let all = all();
    // A shim is nobody's child any more: it is known by its container.
    let keeps = |pid: u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        containers.iter().any(|id| command.contains(id.as_str()))
    };
    let mut family: Vec<u32> = all
        .iter()
        .filter(|(pid, stat)| **pid == side.pid || part(&stat.program) == Some(Part::Keeper) && keeps(**pid))
        .map(|(pid, _)| *pid)
        .collect();
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        for (pid, stat) in &all {
            if stat.parent == member && !family.contains(pid) {
                family.push(*pid);
            }
        }
        next += 1;
    }
    let process = |pid: u32| Some(Process { pid, part: part(&all.get(&pid)?.program)? });
    family.into_iter().filter_map(process).collect()
}

impl Process {
    /// Of its threads that live and its children that ended: what is left out is threads that ended.
    pub(super) fn processor_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        // The first number of schedstat is in nanoseconds.
        let nanoseconds = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        let children = stat(self.pid).map_or(0, |stat| stat.childrens_ticks);
        Duration::from_nanos(nanoseconds.sum()) + TICK * children
    }

    /// Its proportional share of the host's memory, in KiB; a guest's memory is left out.
    pub(super) fn proportional_kib(&self, guest_bytes: u64) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps", self.pid)).unwrap_or_default();
        let mappings = smaps::parse(&text);
        let is_guest = guests_memory(self.part, &mappings, guest_bytes);
        Memory::sum(mappings.iter().filter(|mapping| !is_guest(mapping))).proportional_kib
    }
}

/// Says which mappings are a guest's memory: a file in memory, or, where the processor executes the guest, the last of
/// the largest one.
fn guests_memory(part: Part, mappings: &[Mapping], guest_bytes: u64) -> impl Fn(&Mapping) -> bool + use<> {
    let is_file = |mapping: &Mapping| mapping.name.starts_with("/memfd:");
    let of_guest = part != Part::Daemon && guest_bytes > 0;
    let has_file = mappings.iter().any(is_file);
    let end =
        mappings.iter().max_by_key(|mapping| mapping.end - mapping.start).map_or(0, |largest| largest.end);
    let start = end.saturating_sub(guest_bytes);
    move |mapping| {
        let is_anonymous_guest =
            part == Part::Keeper && !has_file && mapping.start >= start && mapping.end <= end;
        of_guest && (is_file(mapping) || is_anonymous_guest)
    }
}

struct Stat {
    program: String,
    parent: u32,
    /// Processor time of children that ended and were waited for.
    childrens_ticks: u32,
}

fn all() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5). The name is in parentheses and may contain some.
fn parse(stat: &str) -> Option<Stat> {
    let (start, rest) = stat.rsplit_once(") ")?;
    let (_pid, program) = start.split_once('(')?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |number: usize| fields.get(number)?.parse::<u32>().ok();
    Some(Stat { program: program.to_owned(), parent: field(1)?, childrens_ticks: field(13)? + field(14)? })
}

fn part(program: &str) -> Option<Part> {
    PROGRAMS.iter().find(|(name, _)| program.starts_with(name)).map(|(_, part)| *part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_program() {
        let stat =
            parse("42 (containerd-shim) S 7 1 1 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 500").unwrap();
        assert_eq!((stat.parent, stat.childrens_ticks), (7, 7));
        assert_eq!(part(&stat.program), Some(Part::Keeper));
        assert_eq!(part("containerd"), Some(Part::Daemon));
        assert_eq!(part("sleep"), None);
    }

    #[test]
    fn our_own_threads_have_taken_time() {
        let process = Process { pid: std::process::id(), part: Part::Daemon };
        assert!(process.processor_time() > Duration::ZERO);
        assert!(process.proportional_kib(0) > 0);
    }

    #[test]
    fn a_guests_memory_is_left_out() {
        let mappings = |text: &str| smaps::parse(text);
        let count = |part, text: &str| {
            let mappings = mappings(text);
            let is_guest = guests_memory(part, &mappings, 0x1_0000);
            mappings.iter().filter(|mapping| !is_guest(mapping)).count()
        };
        let file = "1000-2000 rw-p 0 00:00 0\n100000-110000 rw-s 0 00:01 9 /memfd:ram (deleted)\n\
                    200000-300000 rw-p 0 00:00 0\n";
        assert_eq!(count(Part::Emulator, file), 2);
        let anonymous =
            "1000-2000 rw-p 0 00:00 0\n100000-108000 rw-p 0 00:00 0\n108000-110000 rw-p 0 00:00 0\n";
        assert_eq!(count(Part::Keeper, anonymous), 1);
        assert_eq!(count(Part::Daemon, anonymous), 3);
    }
}
