//! Limits, with Docker's rules and texts for what is out of bounds.

use super::body::HostConfig;
use crate::api::error::{ApiError, ApiResult};
use crate::engine::Limits;

/// Docker's minimum: less does not even start a process.
const MIN_MEMORY_BYTES: i64 = 6 << 20;
/// The kernel's default and bounds, in microseconds.
const CPU_PERIOD_US: i64 = 100_000;
const CPU_PERIOD_BOUNDS_US: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
const MIN_CPU_QUOTA_US: i64 = 1_000;
const NANO_CPUS_PER_CPU: i64 = 1_000_000_000;
const SWAP_WARNING: &str = "HostConfig.MemorySwap has no effect beyond HostConfig.Memory: machines have no swap. Memory is limited without it.";

/// # Errors
/// Docker's texts.
pub(super) fn limits(host: &HostConfig, cpu_count: usize, warnings: &mut Vec<String>) -> ApiResult<Limits> {
    Ok(Limits {
        memory_bytes: memory(host, warnings)?,
        nano_cpus: nano_cpus(host, cpu_count)?,
        // Docker takes 0 and -1 for "no limit".
        pids: (host.pids_limit > 0).then_some(host.pids_limit),
    })
}

fn memory(host: &HostConfig, warnings: &mut Vec<String>) -> ApiResult<Option<u64>> {
    let (memory, with_swap) = (host.memory, host.memory_swap);
    if memory > 0 && memory < MIN_MEMORY_BYTES {
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
    if with_swap > memory {
        warnings.push(SWAP_WARNING.to_owned());
    }
    Ok(positive(memory))
}

fn nano_cpus(host: &HostConfig, cpu_count: usize) -> ApiResult<Option<u64>> {
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
    Ok(positive(nano).or_else(|| share(quota, period)))
}

/// A quota of CPU time per period as a number of CPUs: what the scheduler makes of both is the same.
fn share(quota_us: i64, period_us: i64) -> Option<u64> {
    let period_us = if period_us == 0 { CPU_PERIOD_US } else { period_us };
    let nano = i128::from(quota_us) * i128::from(NANO_CPUS_PER_CPU) / i128::from(period_us);
    u64::try_from(nano).ok().filter(|nano| *nano > 0)
}

pub(super) fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
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
    fn quota_and_period_are_cpus() {
        for (cpu_quota, cpu_period, nano) in
            [(50_000, 0, 500_000_000), (150_000, 100_000, 1_500_000_000), (1_000, 1_000_000, 1_000_000)]
        {
            let host = HostConfig { cpu_quota, cpu_period, ..HostConfig::default() };
            assert_eq!(of(&host).0.unwrap().nano_cpus, Some(nano));
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_in_dockers_words() {
        let mib = 1 << 20;
        let default = HostConfig::default;
        for (host, text) in [
            (HostConfig { memory: mib, ..default() }, "Minimum memory limit"),
            (HostConfig { memory: 8 * mib, memory_swap: 7 * mib, ..default() }, "Minimum memoryswap"),
            (HostConfig { memory_swap: mib, ..default() }, "You should always set the Memory limit"),
            (HostConfig { nano_cpus: 1, cpu_quota: 1000, ..default() }, "Conflicting options"),
            (HostConfig { nano_cpus: 1, cpu_period: 1000, ..default() }, "Conflicting options"),
            (HostConfig { nano_cpus: 3_000_000_000, ..default() }, "Range of CPUs is from 0.01 to 2.00"),
            (HostConfig { cpu_period: 1, ..default() }, "CPU cfs period"),
            (HostConfig { cpu_quota: 1, ..default() }, "CPU cfs quota"),
        ] {
            let message = of(&host).0.unwrap_err();
            assert!(message.starts_with(text), "{message}");
        }
    }

    #[test]
    fn swap_that_no_machine_has_is_a_warning() {
        let host = HostConfig { memory: 64 << 20, memory_swap: 128 << 20, ..HostConfig::default() };
        assert_eq!(of(&host).1, 1);
        let equal = HostConfig { memory: 64 << 20, memory_swap: 64 << 20, ..HostConfig::default() };
        assert_eq!(of(&equal).1, 0);
    }
}
