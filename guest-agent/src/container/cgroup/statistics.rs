//! What a cgroup has counted, read from its files and from the few of /proc that put the numbers into proportion.
//!
//! A counter that is not there is zero: which files exist depends on the controllers in use.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use berth_protocol::agent::{
    CpuStatistics, DiskStatistics, InterfaceStatistics, MemoryStatistics, NamedCount, Statistics,
};

use crate::clock;

/// /proc/stat counts in these (`USER_HZ`).
const TICK_US: u64 = 10_000;

/// Of the cgroup in `directory`, and of the interfaces that the process `pid` has, if it still does.
pub(super) fn read(directory: &Path, pid: Option<u32>) -> Statistics {
    let file = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let proc = |name: &str| fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
    Statistics {
        read_unix_ns: clock::unix_time_ns(),
        cpu: Some(cpu(&file("cpu.stat"), &proc("stat"))),
        memory: Some(MemoryStatistics {
            usage_bytes: number(&file("memory.current")),
            limit_bytes: number(&file("memory.max")),
            machine_bytes: machine_bytes(),
            counts: counts(&file("memory.stat")),
            oom_kills: count(&file("memory.events"), "oom_kill"),
        }),
        pids: number(&file("pids.current")),
        pids_limit: number(&file("pids.max")),
        disks: file("io.stat").lines().filter_map(disk).collect(),
        interfaces: pid.map(|pid| interfaces(&proc(&format!("{pid}/net/dev")))).unwrap_or_default(),
    }
}

/// The value of a line `name value`; zero if there is none.
pub(super) fn count(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, number)
}

/// "max" and what is no number are zero.
fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn counts(text: &str) -> Vec<NamedCount> {
    let parse = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some(NamedCount { name: name.to_owned(), value: number(value) })
    };
    text.lines().filter_map(parse).collect()
}

fn cpu(own: &str, of_machine: &str) -> CpuStatistics {
    let all = of_machine.lines().find_map(|line| line.strip_prefix("cpu "));
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
    let ticks = all.map_or(0, |times| times.split_whitespace().take(8).map(number).sum::<u64>());
    let is_cpu = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
    let cpus = of_machine.lines().filter(is_cpu).count();
    CpuStatistics {
        total_us: count(own, "usage_usec"),
        user_us: count(own, "user_usec"),
        system_us: count(own, "system_usec"),
        periods: count(own, "nr_periods"),
        throttled_periods: count(own, "nr_throttled"),
        throttled_us: count(own, "throttled_usec"),
        machine_total_us: ticks.saturating_mul(TICK_US),
        machine_cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
    }
}

/// The memory of the whole machine; 0 if the kernel does not say.
pub(crate) fn machine_bytes() -> u64 {
    total_bytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn total_bytes(meminfo: &str) -> u64 {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    kib.map_or(0, |kib| number(kib.trim().trim_end_matches(" kB")).saturating_mul(1024))
}

/// `254:16 rbytes=1 wbytes=2 …`
fn disk(line: &str) -> Option<DiskStatistics> {
    let (device, counters) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let counters: BTreeMap<&str, &str> =
        counters.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let counter = |name: &str| counters.get(name).map_or(0, |value| number(value));
    Some(DiskStatistics {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        read_bytes: counter("rbytes"),
        written_bytes: counter("wbytes"),
        reads: counter("rios"),
        writes: counter("wios"),
        discarded_bytes: counter("dbytes"),
        discards: counter("dios"),
    })
}

/// Lines of /proc/net/dev behind its two of headings; loopback does not count.
fn interfaces(text: &str) -> Vec<InterfaceStatistics> {
    let parse = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map(number).collect();
        let counter = |index: usize| counters.get(index).copied().unwrap_or(0);
        Some(InterfaceStatistics {
            name: name.trim().to_owned(),
            received_bytes: counter(0),
            received_packets: counter(1),
            receive_errors: counter(2),
            receive_dropped: counter(3),
            sent_bytes: counter(8),
            sent_packets: counter(9),
            send_errors: counter(10),
            send_dropped: counter(11),
        })
    };
    text.lines().skip(2).filter_map(parse).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_from_the_right_line() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(count(events, "oom_kill"), 2);
        assert_eq!(count("oom 3\noom_group_kill 1\n", "oom_kill"), 0);
        assert_eq!(number("max\n"), 0);
    }

    #[test]
    fn cpu_time_comes_with_that_of_all_cpus() {
        let own =
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n";
        let machine = "cpu  1 2 3 4 0 0 0 0 9 9\ncpu0 1 1 1 1\ncpu1 0 1 2 3\nintr 5\n";
        let read = cpu(own, machine);
        assert_eq!((read.total_us, read.user_us, read.system_us), (30, 20, 10));
        assert_eq!((read.periods, read.throttled_periods, read.throttled_us), (4, 3, 2));
        assert_eq!((read.machine_total_us, read.machine_cpus), (100_000, 2));
        assert_eq!(cpu("", ""), CpuStatistics::default());
    }

    #[test]
    fn a_disks_line_is_its_numbers_and_counters() {
        let read = disk("254:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6").unwrap();
        assert_eq!((read.major, read.minor, read.read_bytes, read.discards), (254, 16, 1, 6));
        assert_eq!(disk("nonsense"), None);
        assert_eq!(disk("a:b rbytes=1"), None);
    }

    #[test]
    fn loopback_is_no_network() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    eth0: 10 2 0 1 0 0 0 0 20 3 4 5 0 0 0 0\n";
        let read = interfaces(text);
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].name.as_str(), read[0].received_bytes, read[0].sent_bytes), ("eth0", 10, 20));
        assert_eq!((read[0].receive_dropped, read[0].send_errors, read[0].send_dropped), (1, 4, 5));
    }

    #[test]
    fn memory_is_counted_in_bytes() {
        assert_eq!(total_bytes("MemTotal:         262144 kB\nMemFree: 1 kB\n"), 256 << 20);
    }
}
