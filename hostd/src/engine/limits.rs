//! How much a container may use: the limits of its control group, and what they ask of its machine.

use berth_protocol::agent;
use serde::{Deserialize, Serialize};

use crate::machine::HostShare;

const NANO_CPUS_PER_CPU: u64 = 1_000_000_000;
/// The kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// What the guest's kernel and the agent need beside the container's own limit.
const MACHINE_NEED_MIB: u64 = 128;
/// Of each MiB of the limit, the part that comes on top: the kernel keeps 64 bytes for each page of 4096, the page tables
/// of a process that uses it all take 8, and its reserves some more.
const PER_LIMIT: u64 = 40;

/// `None` and empty are "no limit". As the client said it, since that is what it asks for again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub memory_reservation_bytes: Option<u64>,
    /// 1e-9 CPUs.
    pub nano_cpus: Option<u64>,
    pub cpu_quota_us: Option<u64>,
    pub cpu_period_us: Option<u64>,
    /// Against other containers, 1024 being usual.
    pub cpu_shares: Option<u64>,
    /// CPUs of the machine, "0-2,7".
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub pids: Option<i64>,
    /// 10 to 1000, 500 being usual.
    pub blkio_weight: Option<u16>,
    pub blkio_device_weights: Vec<DeviceWeight>,
    pub blkio_throttles: Vec<DeviceThrottle>,
}

/// Of a disk of the machine, "/dev/vdb".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    pub path: String,
    pub weight: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceThrottle {
    pub path: String,
    pub what: Throttled,
    /// Bytes or operations per second.
    pub rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Throttled {
    ReadBytes,
    WriteBytes,
    Reads,
    Writes,
}

impl Limits {
    /// How many virtual CPUs the machine must have for these limits to mean what they say.
    pub(super) fn cpus(&self) -> u64 {
        let by_quota =
            self.cpu_quota_us.map(|quota| quota.div_ceil(self.cpu_period_us.unwrap_or(CPU_PERIOD_US).max(1)));
        let by_share = self.nano_cpus.map(|nano| nano.div_ceil(NANO_CPUS_PER_CPU));
        let by_number = highest(&self.cpuset_cpus).map(|highest| u64::from(highest) + 1);
        [by_quota, by_share, by_number].into_iter().flatten().max().unwrap_or(0)
    }

    /// The memory that a machine must have for the limit to be the container's alone; 0 without one.
    pub(super) fn machine_memory_mib(&self) -> u32 {
        let limit_mib = self.memory_bytes.map(|bytes| bytes.div_ceil(1 << 20));
        let wanted_mib = limit_mib.map_or(0, |limit| limit + limit.div_ceil(PER_LIMIT) + MACHINE_NEED_MIB);
        u32::try_from(wanted_mib).unwrap_or(u32::MAX)
    }

    /// What the container's machine gets of the host beside others: inside, there are no others.
    pub(super) fn host_share(&self, parent: Option<&str>) -> HostShare {
        HostShare {
            cpu_shares: self.cpu_shares,
            io_weight: self.blkio_weight,
            parent: parent.map(str::to_owned),
        }
    }

    /// In the agent's words.
    pub(super) fn resources(&self) -> agent::Resources {
        agent::Resources {
            memory_bytes: self.memory_bytes.unwrap_or(0),
            memory_reservation_bytes: self.memory_reservation_bytes.unwrap_or(0),
            nano_cpus: self.nano_cpus.unwrap_or(0),
            cpu_quota_us: self.cpu_quota_us.unwrap_or(0),
            cpu_period_us: self.cpu_period_us.unwrap_or(0),
            cpu_weight: self.cpu_shares.map_or(0, cpu_weight),
            cpus: self.cpuset_cpus.clone(),
            memory_nodes: self.cpuset_mems.clone(),
            pids: self.pids.unwrap_or(0),
            io_weight: self.blkio_weight.map_or(0, io_weight),
            io_device_weights: self.blkio_device_weights.iter().map(device_weight).collect(),
            io_throttles: self.blkio_throttles.iter().map(device_throttle).collect(),
        }
    }
}

/// 2 to 262144 onto 1 to 10000, as the runtime specification's implementations do.
fn cpu_weight(shares: u64) -> u32 {
    let shares = shares.clamp(2, 262_144);
    u32::try_from(1 + (shares - 2) * 9999 / 262_142).unwrap_or(1)
}

/// 10 to 1000 onto 1 to 10000, likewise.
fn io_weight(weight: u16) -> u32 {
    1 + (u32::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

fn device_weight(weighted: &DeviceWeight) -> agent::DeviceWeight {
    agent::DeviceWeight { path: weighted.path.clone(), weight: io_weight(weighted.weight) }
}

fn device_throttle(throttle: &DeviceThrottle) -> agent::DeviceThrottle {
    let mut sent = agent::DeviceThrottle { path: throttle.path.clone(), ..agent::DeviceThrottle::default() };
    let rate = match throttle.what {
        Throttled::ReadBytes => &mut sent.read_bytes_per_second,
        Throttled::WriteBytes => &mut sent.write_bytes_per_second,
        Throttled::Reads => &mut sent.read_operations_per_second,
        Throttled::Writes => &mut sent.write_operations_per_second,
    };
    *rate = throttle.rate;
    sent
}

/// The highest number of a list like "0-2,7"; `None` for an empty list, or one that is none.
#[must_use]
pub fn highest(list: &str) -> Option<u32> {
    let numbers = list.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        (first <= last).then_some(last)
    });
    numbers.collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_ends_and_their_middle() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(cpu_weight), [1, 1, 39, 10_000, 10_000]);
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }

    #[test]
    fn a_machine_has_the_cpus_that_its_container_may_use() {
        let cpus = |limits: Limits| limits.cpus();
        assert_eq!(cpus(Limits::default()), 0);
        assert_eq!(cpus(Limits { nano_cpus: Some(1_500_000_000), ..Limits::default() }), 2);
        assert_eq!(cpus(Limits { cpu_quota_us: Some(250_000), ..Limits::default() }), 3);
        let quarter = Limits { cpu_quota_us: Some(250), cpu_period_us: Some(1000), ..Limits::default() };
        assert_eq!(cpus(quarter), 1);
        assert_eq!(cpus(Limits { cpuset_cpus: "0,2-3".into(), ..Limits::default() }), 4);
    }

    #[test]
    fn a_machine_has_the_memory_of_its_container_and_its_own() {
        let mib = |memory_bytes| Limits { memory_bytes, ..Limits::default() }.machine_memory_mib();
        assert_eq!(mib(None), 0);
        assert_eq!(mib(Some(64 << 20)), 64 + 2 + 128);
        // Pages of 16 GiB alone are described by 256 MiB.
        assert_eq!(mib(Some(16 << 30)), 16_384 + 410 + 128);
        assert_eq!(mib(Some(u64::MAX)), u32::MAX);
    }

    #[test]
    fn a_list_of_numbers_has_a_highest_or_is_none() {
        assert_eq!(highest("0-2,7"), Some(7));
        assert_eq!(highest("3"), Some(3));
        for wrong in ["", "a", "1-", "2-1", "0,,1", "-1"] {
            assert_eq!(highest(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn throttles_say_what_they_slow_down() {
        let throttle = |what| DeviceThrottle { path: "/dev/vdb".into(), what, rate: 9 };
        assert_eq!(device_throttle(&throttle(Throttled::WriteBytes)).write_bytes_per_second, 9);
        assert_eq!(device_throttle(&throttle(Throttled::Reads)).read_operations_per_second, 9);
    }
}
