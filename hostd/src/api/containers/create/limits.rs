//! Limits, with Docker's rules and texts for what is out of bounds.

use super::body::{HostConfig, WeightDevice};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{DeviceThrottle, DeviceWeight, Limits, Throttled, highest};

/// Docker's minimum: less does not even start a process.
const MIN_MEMORY_BYTES: i64 = 6 << 20;
/// The kernel's bounds, in microseconds.
const CPU_PERIOD_BOUNDS_US: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
const MIN_CPU_QUOTA_US: i64 = 1_000;
const NANO_CPUS_PER_CPU: i64 = 1_000_000_000;
/// Where there is no weight for one disk, it has that of most.
const USUAL_BLKIO_WEIGHT: u16 = 500;
/// Docker's text, with control groups as machines have them.
const OOM_KILL_WARNING: &str = "Your kernel does not support OomKillDisable. OomKillDisable discarded.";
const SWAP_WARNING: &str = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.";

/// # Errors
/// Docker's texts.
pub(super) fn limits(host: &HostConfig, cpu_count: usize, warnings: &mut Vec<String>) -> ApiResult<Limits> {
    check_cpus(host, cpu_count)?;
    if host.oom_kill_disable == Some(true) {
        warnings.push(OOM_KILL_WARNING.to_owned());
    }
    Ok(Limits {
        memory_bytes: memory(host, warnings)?,
        memory_reservation_bytes: positive(host.memory_reservation),
        nano_cpus: positive(host.nano_cpus),
        cpu_quota_us: positive(host.cpu_quota),
        cpu_period_us: positive(host.cpu_period),
        cpu_shares: cpu_shares(host.cpu_shares)?,
        cpuset_cpus: cpuset("cpus", "CPUs", &host.cpuset_cpus, cpu_count)?,
        // A machine has one memory node.
        cpuset_mems: cpuset("mems", "memory nodes", &host.cpuset_mems, 1)?,
        // Docker takes 0 and -1 for "no limit".
        pids: (host.pids_limit > 0).then_some(host.pids_limit),
        blkio_weight: weight("blkio weight", host.blkio_weight)?,
        blkio_device_weights: host.blkio_weight_device.iter().map(device_weight).collect::<Result<_, _>>()?,
        blkio_throttles: throttles(host)?,
    })
}

fn cpu_shares(shares: i64) -> ApiResult<Option<u64>> {
    if shares < 0 {
        return Err(ApiError::invalid(format!(
            "invalid CPU shares ({shares}): value must be a positive integer"
        )));
    }
    Ok(positive(shares))
}

fn cpuset(short: &str, long: &str, list: &str, count: usize) -> ApiResult<String> {
    if list.is_empty() {
        return Ok(String::new());
    }
    let highest =
        highest(list).ok_or_else(|| ApiError::invalid(format!("Invalid value {list} for cpuset {short}")))?;
    if usize::try_from(highest).is_ok_and(|highest| highest < count) {
        return Ok(list.to_owned());
    }
    let available = if count == 1 { "0".to_owned() } else { format!("0-{}", count - 1) };
    Err(ApiError::invalid(format!(
        "Requested {long} are not available - requested {list}, available: {available}"
    )))
}

/// Zero is none.
fn weight(what: &str, weight: u16) -> ApiResult<Option<u16>> {
    match weight {
        0 => Ok(None),
        10..=1000 => Ok(Some(weight)),
        _ => Err(ApiError::invalid(format!("Range of {what} is from 10 to 1000"))),
    }
}

fn device_weight(device: &WeightDevice) -> ApiResult<DeviceWeight> {
    check_device(&device.path)?;
    let weight = weight(&format!("blkio weight of {}", device.path), device.weight)?;
    Ok(DeviceWeight { path: device.path.clone(), weight: weight.unwrap_or(USUAL_BLKIO_WEIGHT) })
}

fn throttles(host: &HostConfig) -> ApiResult<Vec<DeviceThrottle>> {
    let lists = [
        (Throttled::ReadBytes, &host.blkio_device_read_bps),
        (Throttled::WriteBytes, &host.blkio_device_write_bps),
        (Throttled::Reads, &host.blkio_device_read_iops),
        (Throttled::Writes, &host.blkio_device_write_iops),
    ];
    let all = lists.into_iter().flat_map(|(what, list)| list.iter().map(move |device| (what, device)));
    // Zero is no limit.
    let limiting = all.filter(|(_, device)| device.rate > 0);
    limiting
        .map(|(what, device)| {
            check_device(&device.path)?;
            Ok(DeviceThrottle { path: device.path.clone(), what, rate: device.rate })
        })
        .collect()
}

/// Which disks a machine has shows when it runs.
fn check_device(path: &str) -> ApiResult<()> {
    if path.starts_with("/dev/") {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("invalid device path: \"{path}\"")))
    }
}

fn memory(host: &HostConfig, warnings: &mut Vec<String>) -> ApiResult<Option<u64>> {
    let (memory, with_swap) = (host.memory, host.memory_swap);
    if memory != 0 && memory < MIN_MEMORY_BYTES {
        return Err(ApiError::invalid("Minimum memory limit allowed is 6MB"));
    }
    if memory > 0 && with_swap > 0 && with_swap < memory {
        let message = "Minimum memoryswap limit should be larger than memory limit, see usage";
        return Err(ApiError::invalid(message));
    }
    if memory <= 0 && with_swap > 0 {
        let message = "You should always set the Memory limit when using Memoryswap limit, see usage";
        return Err(ApiError::invalid(message));
    }
    let reservation = host.memory_reservation;
    if reservation > 0 && reservation < MIN_MEMORY_BYTES {
        return Err(ApiError::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if memory > 0 && reservation > memory {
        let message = "Minimum memory limit can not be less than memory reservation limit, see usage";
        return Err(ApiError::invalid(message));
    }
    // -1 is as much swap as there is.
    if with_swap > memory || (memory > 0 && with_swap < 0) {
        warnings.push(SWAP_WARNING.to_owned());
    }
    Ok(positive(memory))
}

fn check_cpus(host: &HostConfig, cpu_count: usize) -> ApiResult<()> {
    let (nano, period, quota) = (host.nano_cpus, host.cpu_period, host.cpu_quota);
    if nano > 0 && period > 0 {
        return Err(ApiError::invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set"));
    }
    if nano > 0 && quota > 0 {
        return Err(ApiError::invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set"));
    }
    let available = i64::try_from(cpu_count).unwrap_or(i64::MAX);
    if nano < 0 || nano > available.saturating_mul(NANO_CPUS_PER_CPU) {
        return Err(ApiError::invalid(format!(
            "Range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available"
        )));
    }
    if period != 0 && !CPU_PERIOD_BOUNDS_US.contains(&period) {
        let message = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
        return Err(ApiError::invalid(message));
    }
    if quota > 0 && quota < MIN_CPU_QUOTA_US {
        return Err(ApiError::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    Ok(())
}

pub(super) fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::super::body::ThrottleDevice;
    use super::*;

    fn of(host: &HostConfig) -> (Result<Limits, String>, usize) {
        let mut warnings = Vec::new();
        (limits(host, 2, &mut warnings).map_err(|error| error.message), warnings.len())
    }

    #[test]
    fn zero_and_minus_one_are_no_limits() {
        let host = HostConfig { memory_swap: -1, pids_limit: -1, cpu_quota: -1, ..HostConfig::default() };
        assert_eq!(of(&host), (Ok(Limits::default()), 0));
    }

    #[test]
    fn limits_are_kept_as_they_were_said() {
        let rate = |rate| vec![ThrottleDevice { path: "/dev/vdb".into(), rate }];
        let host = HostConfig {
            cpu_quota: 50_000,
            cpu_period: 100_000,
            cpu_shares: 512,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            memory_reservation: 32 << 20,
            blkio_weight: 10,
            blkio_weight_device: vec![WeightDevice { path: "/dev/vdb".into(), weight: 20 }],
            blkio_device_read_bps: rate(0),
            blkio_device_write_iops: rate(7),
            ..HostConfig::default()
        };
        let throttle = DeviceThrottle { path: "/dev/vdb".into(), what: Throttled::Writes, rate: 7 };
        let expected = Limits {
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            cpu_shares: Some(512),
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            memory_reservation_bytes: Some(32 << 20),
            blkio_weight: Some(10),
            blkio_device_weights: vec![DeviceWeight { path: "/dev/vdb".into(), weight: 20 }],
            blkio_throttles: vec![throttle],
            ..Limits::default()
        };
        assert_eq!(of(&host), (Ok(expected), 0));
    }

    #[test]
    fn the_killer_cannot_be_disabled_and_that_is_a_warning() {
        assert_eq!(of(&HostConfig { oom_kill_disable: Some(true), ..HostConfig::default() }).1, 1);
        assert_eq!(of(&HostConfig { oom_kill_disable: Some(false), ..HostConfig::default() }).1, 0);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_in_dockers_words() {
        let mib = 1 << 20;
        let default = HostConfig::default;
        for (host, text) in [
            (HostConfig { memory: mib, ..default() }, "Minimum memory limit"),
            (HostConfig { memory: -1, ..default() }, "Minimum memory limit"),
            (HostConfig { memory: 8 * mib, memory_swap: 7 * mib, ..default() }, "Minimum memoryswap"),
            (HostConfig { memory_swap: mib, ..default() }, "You should always set the Memory limit"),
            (HostConfig { nano_cpus: 1, cpu_quota: 1000, ..default() }, "Conflicting options"),
            (HostConfig { nano_cpus: 1, cpu_period: 1000, ..default() }, "Conflicting options"),
            (HostConfig { nano_cpus: 3_000_000_000, ..default() }, "Range of CPUs is from 0.01 to 2.00"),
            (HostConfig { cpu_period: 1, ..default() }, "CPU cfs period"),
            (HostConfig { cpu_quota: 1, ..default() }, "CPU cfs quota"),
            (HostConfig { memory_reservation: mib, ..default() }, "Minimum memory reservation"),
            (
                HostConfig { memory: 8 * mib, memory_reservation: 9 * mib, ..default() },
                "Minimum memory limit can not be less than memory reservation",
            ),
            (HostConfig { cpu_shares: -1, ..default() }, "invalid CPU shares"),
            (HostConfig { cpuset_cpus: "x".into(), ..default() }, "Invalid value x for cpuset cpus"),
            (
                HostConfig { cpuset_cpus: "0-2".into(), ..default() },
                "Requested CPUs are not available - requested 0-2, available: 0-1",
            ),
            (HostConfig { cpuset_mems: "1".into(), ..default() }, "Requested memory nodes are not available"),
            (HostConfig { blkio_weight: 9, ..default() }, "Range of blkio weight is from 10 to 1000"),
        ] {
            let message = of(&host).0.unwrap_err();
            assert!(message.starts_with(text), "{message}");
        }
    }

    #[test]
    fn swap_that_no_machine_has_is_a_warning() {
        for memory_swap in [128 << 20, -1] {
            let host = HostConfig { memory: 64 << 20, memory_swap, ..HostConfig::default() };
            assert_eq!(of(&host).1, 1, "{memory_swap}");
        }
        let equal = HostConfig { memory: 64 << 20, memory_swap: 64 << 20, ..HostConfig::default() };
        assert_eq!(of(&equal).1, 0);
    }
}
