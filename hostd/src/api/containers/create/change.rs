//! The part of a create request that an update may carry: what it does not name stays as it is.

use serde_json::{Map, Value};

use super::body::HostConfig;
use super::restart::restart_policy;
use super::{fields, limits};
use crate::api::body as json;
use crate::api::error::ApiResult;
use crate::engine::{Limits, RestartPolicy};

/// What an update comes to.
#[derive(Debug)]
pub(in crate::api) struct Change {
    /// All of them, changed or not.
    pub(in crate::api) limits: Limits,
    pub(in crate::api) restart: Option<RestartPolicy>,
    pub(in crate::api) warnings: Vec<String>,
}

/// # Errors
/// As for a create request with the container's limits and these.
pub(in crate::api) fn changed_limits(
    body: &Map<String, Value>,
    old: &Limits,
    cpu_count: usize,
) -> ApiResult<Change> {
    let none = Map::new();
    let objects = fields::Objects { config: &none, host_config: body };
    let mut warnings = fields::check(&objects)?;
    warnings.extend(not_changed(body));
    let asked: HostConfig = json::decode(body)?;
    let restart = if asked.restart_policy.name.is_empty() {
        None
    } else {
        Some(restart_policy(&asked.restart_policy)?)
    };
    let mut limits = limits::limits(&merged(asked, old), cpu_count, &mut warnings)?;
    // Limits of single disks are no part of an update.
    limits.blkio_device_weights.clone_from(&old.blkio_device_weights);
    limits.blkio_throttles.clone_from(&old.blkio_throttles);
    Ok(Change { limits, restart, warnings })
}

/// What an update can change; everything else of a container is as it was made.
const CHANGED: [&str; 14] = [
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "NanoCpus",
    "OomKillDisable",
    "PidsLimit",
    "RestartPolicy",
    // Judged like a limit, and no more than that.
    "KernelMemory",
];

/// A warning for each field of a create request that asks for something here, and that dockerd drops in silence.
fn not_changed(body: &Map<String, Value>) -> Vec<String> {
    let known = serde_json::to_value(HostConfig::default()).unwrap_or_default();
    let asked = body.iter().filter(|(name, value)| {
        known.get(name.as_str()).is_some() && !CHANGED.contains(&name.as_str()) && !fields::empty(value)
    });
    asked
        .map(|(name, _)| {
            format!("HostConfig.{name} has no effect: an update changes limits and the restart policy.")
        })
        .collect()
}

/// Zero and empty mean "as it is".
fn merged(asked: HostConfig, old: &Limits) -> HostConfig {
    let kept = |asked: i64, old: Option<u64>| match asked {
        0 => old.map_or(0, |old| i64::try_from(old).unwrap_or(i64::MAX)),
        asked => asked,
    };
    let kept_list = |asked: String, old: &String| if asked.is_empty() { old.clone() } else { asked };
    let memory_swap = if asked.memory_swap == 0 { 0 } else { asked.memory_swap };
    HostConfig {
        memory: kept(asked.memory, old.memory_bytes),
        memory_swap,
        memory_reservation: kept(asked.memory_reservation, old.memory_reservation_bytes),
        nano_cpus: kept(asked.nano_cpus, old.nano_cpus),
        cpu_quota: kept(asked.cpu_quota, old.cpu_quota_us),
        cpu_period: kept(asked.cpu_period, old.cpu_period_us),
        cpu_shares: kept(asked.cpu_shares, old.cpu_shares),
        cpuset_cpus: kept_list(asked.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: kept_list(asked.cpuset_mems, &old.cpuset_mems),
        pids_limit: if asked.pids_limit == 0 { old.pids.unwrap_or(0) } else { asked.pids_limit },
        blkio_weight: if asked.blkio_weight == 0 {
            old.blkio_weight.unwrap_or(0)
        } else {
            asked.blkio_weight
        },
        oom_kill_disable: asked.oom_kill_disable,
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn old() -> Limits {
        Limits {
            memory_bytes: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            pids: Some(9),
            cpuset_cpus: "0".into(),
            ..Limits::default()
        }
    }

    fn change(body: &Value) -> Result<Change, String> {
        changed_limits(body.as_object().unwrap(), &old(), 2).map_err(|error| error.message)
    }

    #[test]
    fn what_is_not_named_stays() {
        assert_eq!(change(&json!({})).unwrap().limits, old());
        let nothing =
            json!({ "Memory": 0, "PidsLimit": null, "CpusetCpus": "", "RestartPolicy": { "Name": "" } });
        let change = change(&nothing).unwrap();
        assert_eq!((change.limits, change.restart), (old(), None));
    }

    #[test]
    fn what_is_named_is_new() {
        let body = json!({ "Memory": 32 << 20, "PidsLimit": -1, "CpuShares": 7, "RestartPolicy": { "Name": "always" } });
        let change = change(&body).unwrap();
        let expected = Limits { memory_bytes: Some(32 << 20), pids: None, cpu_shares: Some(7), ..old() };
        assert_eq!((change.limits, change.restart), (expected, Some(RestartPolicy::Always)));
    }

    #[test]
    fn what_an_update_cannot_change_is_named() {
        let asked = json!({ "Privileged": true, "Ulimits": [], "Devices": null, "ShmSize": 0, "NoSuchField": 1,
            "CgroupParent": "/x", "Memory": 32 << 20 });
        let warnings = change(&asked).unwrap().warnings;
        let field = |warning: &String| warning.split(' ').next().unwrap().to_owned();
        let fields: Vec<_> = warnings.iter().map(field).collect();
        assert_eq!(fields, ["HostConfig.CgroupParent", "HostConfig.Privileged"]);
    }

    #[test]
    fn what_cannot_be_is_refused_as_at_creation() {
        assert!(change(&json!({ "CpuQuota": 1000 })).unwrap_err().contains("Conflicting options"));
        assert!(change(&json!({ "Memory": 1 })).unwrap_err().contains("Minimum memory limit"));
        assert!(change(&json!({ "CpuRealtimePeriod": 7 })).unwrap_err().contains("CPU real-time scheduler"));
    }
}
