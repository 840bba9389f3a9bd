//! The files of a cgroup that its limits are written to: pure, from a request to names and values.

use std::io;

use berth_protocol::agent::{DeviceThrottle, Resources};

/// The period of the CPU limit, the kernel's default and Docker's.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel refuses smaller quotas.
const MIN_CPU_QUOTA_US: u64 = 1_000;
const NO_LIMIT: &str = "max";

/// One file and what it is to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// The value that a new cgroup's file has anyway.
    pub(super) is_default: bool,
}

impl Limit {
    fn new(file: &'static str, asked: Option<String>, default: &str) -> Self {
        Self { file, is_default: asked.is_none(), value: asked.unwrap_or_else(|| default.to_owned()) }
    }
}

/// The controllers that these limits need beyond those of every container.
pub(super) fn further_controllers(resources: &Resources) -> Vec<&'static str> {
    let wants_cpuset = !resources.cpus.is_empty() || !resources.memory_nodes.is_empty();
    let wants_io = resources.io_weight > 0
        || !resources.io_device_weights.is_empty()
        || !resources.io_throttles.is_empty();
    [(wants_cpuset, "+cpuset"), (wants_io, "+io")]
        .into_iter()
        .filter_map(|(wanted, controller)| wanted.then_some(controller))
        .collect()
}

/// Every limit there is, asked for or not.
///
/// Swap is no question: a machine has none. `memory.oom.group` stays off, as with Docker: the kernel ends the process it
/// finds worst, not the whole container.
pub(super) fn limits(resources: &Resources) -> Vec<Limit> {
    let above_zero = |number: u64| (number > 0).then(|| number.to_string());
    let filled = |list: &String| (!list.is_empty()).then(|| list.clone());
    let weight = |weight: u32| (weight > 0).then(|| weight.to_string());
    vec![
        Limit::new("memory.max", above_zero(resources.memory_bytes), NO_LIMIT),
        Limit::new("memory.low", above_zero(resources.memory_reservation_bytes), "0"),
        Limit::new("cpu.max", cpu_max(resources), "max 100000"),
        Limit::new("cpu.weight", weight(resources.cpu_weight), "100"),
        Limit::new("pids.max", u64::try_from(resources.pids).ok().and_then(above_zero), NO_LIMIT),
        // An empty write would be none.
        Limit::new("cpuset.cpus", filled(&resources.cpus), "\n"),
        Limit::new("cpuset.mems", filled(&resources.memory_nodes), "\n"),
        Limit::new(
            "io.weight",
            weight(resources.io_weight).map(|own| format!("default {own}")),
            "default 100",
        ),
    ]
}

/// Limits on single disks, whose numbers `device` finds.
///
/// # Errors
/// What `device` returned, with the path in front.
pub(super) fn disk_limits(
    resources: &Resources,
    device: impl Fn(&str) -> io::Result<(u32, u32)>,
) -> io::Result<Vec<Limit>> {
    let numbers = |path: &str| {
        let found = device(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")));
        found.map(|(major, minor)| format!("{major}:{minor}"))
    };
    let mut limits = Vec::new();
    for weighted in &resources.io_device_weights {
        let line = format!("{} {}", numbers(&weighted.path)?, weighted.weight);
        limits.push(Limit::new("io.weight", Some(line), ""));
    }
    for throttle in &resources.io_throttles {
        let line = format!("{} {}", numbers(&throttle.path)?, io_max(throttle));
        limits.push(Limit::new("io.max", Some(line), ""));
    }
    Ok(limits)
}

/// `quota period`, if any of it was asked for.
fn cpu_max(resources: &Resources) -> Option<String> {
    let period_us = if resources.cpu_period_us == 0 { CPU_PERIOD_US } else { resources.cpu_period_us };
    if resources.cpu_quota_us > 0 {
        return Some(format!("{} {period_us}", resources.cpu_quota_us.max(MIN_CPU_QUOTA_US)));
    }
    if resources.nano_cpus > 0 {
        let quota_us = u128::from(resources.nano_cpus) * u128::from(CPU_PERIOD_US) / 1_000_000_000;
        return Some(format!("{} {CPU_PERIOD_US}", quota_us.max(u128::from(MIN_CPU_QUOTA_US))));
    }
    (resources.cpu_period_us > 0).then(|| format!("{NO_LIMIT} {period_us}"))
}

fn io_max(throttle: &DeviceThrottle) -> String {
    let asked = [
        ("rbps", throttle.read_bytes_per_second),
        ("wbps", throttle.write_bytes_per_second),
        ("riops", throttle.read_operations_per_second),
        ("wiops", throttle.write_operations_per_second),
    ];
    let words = asked.into_iter().filter(|(_, number)| *number > 0);
    words.map(|(name, number)| format!("{name}={number}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_protocol::agent::DeviceWeight;

    fn asked(resources: &Resources) -> Vec<(&'static str, String)> {
        let all = limits(resources);
        all.into_iter().filter(|limit| !limit.is_default).map(|limit| (limit.file, limit.value)).collect()
    }

    fn cpu(resources: &Resources) -> String {
        asked(resources).remove(0).1
    }

    #[test]
    fn a_cpu_limit_is_a_share_of_the_period() {
        let nano = |nano_cpus| cpu(&Resources { nano_cpus, ..Resources::default() });
        assert_eq!(nano(1_500_000_000), "150000 100000");
        assert_eq!(nano(10_000_000), "1000 100000");
        assert_eq!(nano(1), "1000 100000", "the kernel's minimum");
        assert_eq!(nano(u64::MAX), "1844674407370955 100000", "no overflow");
        let quota = |cpu_quota_us, cpu_period_us| {
            cpu(&Resources { cpu_quota_us, cpu_period_us, ..Resources::default() })
        };
        assert_eq!(quota(25_000, 50_000), "25000 50000");
        assert_eq!(quota(25_000, 0), "25000 100000");
        assert_eq!(quota(0, 50_000), "max 50000");
    }

    #[test]
    fn zero_means_no_limit() {
        assert_eq!(asked(&Resources::default()), []);
        assert_eq!(asked(&Resources { pids: -1, ..Resources::default() }), []);
        assert_eq!(further_controllers(&Resources::default()), [""; 0]);
    }

    #[test]
    fn every_limit_has_its_file() {
        let resources = Resources {
            memory_bytes: 64 << 20,
            memory_reservation_bytes: 32 << 20,
            nano_cpus: 500_000_000,
            pids: 100,
            cpu_weight: 39,
            cpus: "0-1".into(),
            memory_nodes: "0".into(),
            io_weight: 50,
            ..Resources::default()
        };
        let expected = [
            ("memory.max", "67108864"),
            ("memory.low", "33554432"),
            ("cpu.max", "50000 100000"),
            ("cpu.weight", "39"),
            ("pids.max", "100"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("io.weight", "default 50"),
        ];
        assert_eq!(asked(&resources), expected.map(|(file, value)| (file, value.to_owned())));
        assert_eq!(further_controllers(&resources), ["+cpuset", "+io"]);
    }

    #[test]
    fn a_disk_is_limited_by_its_number() {
        let throttle = DeviceThrottle {
            path: "/dev/vdb".into(),
            write_bytes_per_second: 1024,
            read_operations_per_second: 10,
            ..DeviceThrottle::default()
        };
        let resources = Resources {
            io_device_weights: vec![DeviceWeight { path: "/dev/vdb".into(), weight: 7 }],
            io_throttles: vec![throttle],
            ..Resources::default()
        };
        let found = disk_limits(&resources, |_| Ok((254, 16))).unwrap();
        let lines: Vec<_> = found.iter().map(|limit| (limit.file, limit.value.as_str())).collect();
        assert_eq!(lines, [("io.weight", "254:16 7"), ("io.max", "254:16 wbps=1024 riops=10")]);
        let missing = disk_limits(&resources, |_| Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert!(missing.to_string().starts_with("/dev/vdb: "), "{missing}");
    }
}
