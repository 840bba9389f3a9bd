//! Devices of the machine, rules for their use, limits of processes, and kernel parameters.

use std::collections::BTreeMap;

use super::body::{self, HostConfig};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{Device, DeviceRule, Ipc, Namespaces, Ulimit, is_device_access};

const EVERY_ACCESS: &str = "rwm";
/// Parameters of the IPC namespace.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// # Errors
/// Paths that are not absolute, accesses that are none.
pub(super) fn devices(host: &HostConfig) -> ApiResult<Vec<Device>> {
    host.devices.iter().map(device).collect()
}

fn device(device: &body::Device) -> ApiResult<Device> {
    let path = &device.path_on_host;
    let in_container = if device.path_in_container.is_empty() { path } else { &device.path_in_container };
    let access =
        if device.cgroup_permissions.is_empty() { EVERY_ACCESS } else { device.cgroup_permissions.as_str() };
    if !path.starts_with('/') || !in_container.starts_with('/') {
        return Err(ApiError::invalid(format!(
            "invalid device \"{path}:{in_container}\": not an absolute path"
        )));
    }
    if !is_device_access(access) {
        return Err(ApiError::invalid(format!("invalid device mode: {access}")));
    }
    Ok(Device { path: path.clone(), path_in_container: in_container.clone(), access: access.to_owned() })
}

/// A machine has no driver that could choose devices.
///
/// # Errors
/// Docker's text where it has none either.
pub(super) fn check_requests(host: &HostConfig) -> ApiResult<()> {
    let Some(request) = host.device_requests.first() else { return Ok(()) };
    // As Go prints a list of lists.
    let sets: Vec<String> = request.capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
    Err(ApiError::invalid(format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        sets.join(" ")
    )))
}

/// # Errors
/// Docker's text for a rule that is none.
pub(super) fn rules(host: &HostConfig) -> ApiResult<Vec<DeviceRule>> {
    let parse = |rule: &String| rule.parse().map_err(|error| ApiError::invalid(format!("{error}")));
    host.device_cgroup_rules.iter().map(parse).collect()
}

/// # Errors
/// Docker's texts for names and numbers that no process can be limited by.
pub(super) fn ulimits(host: &HostConfig) -> ApiResult<Vec<Ulimit>> {
    host.ulimits.iter().map(ulimit).collect()
}

fn ulimit(asked: &body::Ulimit) -> ApiResult<Ulimit> {
    let ulimit = Ulimit { name: asked.name.clone(), soft: asked.soft, hard: asked.hard };
    if ulimit.resource().is_none() {
        return Err(ApiError::invalid(format!("invalid ulimit type: {}", ulimit.name)));
    }
    let (soft, hard) = (ulimit.soft, ulimit.hard);
    if soft < -1 || hard < -1 {
        return Err(ApiError::invalid(format!("invalid ulimit {}: {soft}:{hard}", ulimit.name)));
    }
    if hard != -1 && (soft == -1 || soft > hard) {
        let message = format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
        return Err(ApiError::invalid(message));
    }
    Ok(ulimit)
}

/// Parameters that belong to a namespace of the container's own.
///
/// # Errors
/// runc's text for others.
pub(super) fn sysctls(host: &HostConfig, namespaces: &Namespaces) -> ApiResult<BTreeMap<String, String>> {
    for name in host.sysctls.keys() {
        let dotted = if name.contains('/') { name.replace('/', ".") } else { name.clone() };
        let of_ipc = OF_IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
        if of_ipc && namespaces.ipc == Ipc::Machine {
            let message = format!("sysctl \"{name}\" is not allowed in the hosts ipc namespace");
            return Err(ApiError::invalid(message));
        }
        if !of_ipc && !dotted.starts_with("net.") {
            let message = format!("sysctl \"{name}\" is not in a separate kernel namespace");
            return Err(ApiError::invalid(message));
        }
    }
    Ok(host.sysctls.clone())
}

/// # Errors
/// Docker's text for what is out of bounds.
pub(super) fn oom_score_adj(host: &HostConfig) -> ApiResult<i32> {
    let adj = host.oom_score_adj;
    i32::try_from(adj).ok().filter(|adj| (-1000..=1000).contains(adj)).ok_or_else(|| {
        ApiError::invalid(format!("Invalid value {adj}, range for oom score adj is [-1000, 1000]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_device(path: &str, target: &str, access: &str) -> HostConfig {
        let device = body::Device {
            path_on_host: path.into(),
            path_in_container: target.into(),
            cgroup_permissions: access.into(),
        };
        HostConfig { devices: vec![device], ..HostConfig::default() }
    }

    #[test]
    fn a_device_has_its_own_path_and_every_access_by_default() {
        let found = devices(&with_device("/dev/fuse", "", "")).unwrap();
        assert_eq!((found[0].path_in_container.as_str(), found[0].access.as_str()), ("/dev/fuse", "rwm"));
        assert!(devices(&with_device("fuse", "", "")).is_err());
        assert_eq!(devices(&with_device("/a", "/b", "x")).unwrap_err().message, "invalid device mode: x");
        let rule = HostConfig { device_cgroup_rules: vec!["c 1".into()], ..HostConfig::default() };
        assert_eq!(rules(&rule).unwrap_err().message, "invalid device cgroup rule format: 'c 1'");
    }

    #[test]
    fn ulimits_are_names_and_ordered_numbers() {
        let of = |name: &str, soft, hard| {
            let ulimit = body::Ulimit { name: name.into(), soft, hard };
            ulimits(&HostConfig { ulimits: vec![ulimit], ..HostConfig::default() })
                .map_err(|error| error.message)
        };
        assert!(of("nofile", 1, -1).is_ok() && of("core", -1, -1).is_ok());
        assert_eq!(of("files", 1, 1).unwrap_err(), "invalid ulimit type: files");
        for (soft, hard) in [(2, 1), (-1, 5)] {
            assert!(of("nofile", soft, hard).unwrap_err().starts_with("ulimit soft limit must be less"));
        }
        assert!(of("nofile", -2, -2).is_err());
    }

    #[test]
    fn only_parameters_of_own_namespaces_are_set() {
        let of = |name: &str, namespaces: &Namespaces| {
            let sysctls = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
            super::sysctls(&HostConfig { sysctls, ..HostConfig::default() }, namespaces)
                .map_err(|error| error.message)
        };
        let own = Namespaces::default();
        for name in ["net.core.somaxconn", "net/ipv4/ip_forward", "kernel.msgmax", "fs.mqueue.msg_max"] {
            assert!(of(name, &own).is_ok(), "{name}");
        }
        assert_eq!(
            of("vm.swappiness", &own).unwrap_err(),
            "sysctl \"vm.swappiness\" is not in a separate kernel namespace"
        );
        let shared = Namespaces { ipc: Ipc::Machine, ..own };
        assert!(of("kernel.sem", &shared).unwrap_err().contains("hosts ipc namespace"));
    }

    #[test]
    fn the_oom_score_is_bounded() {
        let of = |oom_score_adj| super::oom_score_adj(&HostConfig { oom_score_adj, ..HostConfig::default() });
        assert_eq!(of(-1000), Ok(-1000));
        assert_eq!(
            of(1001).unwrap_err().message,
            "Invalid value 1001, range for oom score adj is [-1000, 1000]"
        );
    }
}
