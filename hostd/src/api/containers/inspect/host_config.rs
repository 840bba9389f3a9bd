//! The `HostConfig` of an inspected container: what Berth acts on, and for everything else the value that asks for
//! nothing, in Docker's order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::{mounts, network};
use crate::engine::{
    AutoRemove, CapabilityName, ContainerView, DEFAULT_SHM_BYTES, Device, DeviceThrottle, Ipc, Limits, Link,
    MASKED_PATHS, Namespace, Namespaces, PortBinding, READONLY_PATHS, RestartPolicy, Security, Throttled,
    Ulimit,
};

/// A list nobody filled.
type Unset = Option<()>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    binds: Option<Vec<String>>,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: &'static str,
    log_config: Value,
    network_mode: String,
    port_bindings: Map<String, Value>,
    restart_policy: Value,
    auto_remove: bool,
    volume_driver: String,
    volumes_from: Option<Vec<String>>,
    console_size: [u16; 2],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    cap_add: Option<Vec<String>>,
    cap_drop: Option<Vec<String>>,
    cgroupns_mode: &'static str,
    dns: Vec<IpAddr>,
    dns_options: Vec<String>,
    dns_search: Vec<String>,
    extra_hosts: Option<Vec<String>>,
    group_add: Option<Vec<String>>,
    ipc_mode: String,
    cgroup: &'static str,
    links: Option<Vec<String>>,
    oom_score_adj: i32,
    pid_mode: String,
    privileged: bool,
    publish_all_ports: bool,
    readonly_rootfs: bool,
    security_opt: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    storage_opt: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tmpfs: BTreeMap<String, String>,
    #[serde(rename = "UTSMode")]
    uts_mode: &'static str,
    userns_mode: &'static str,
    shm_size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: BTreeMap<String, String>,
    runtime: String,
    isolation: &'static str,
    cpu_shares: u64,
    memory: u64,
    nano_cpus: u64,
    cgroup_parent: String,
    blkio_weight: u16,
    blkio_weight_device: Vec<Value>,
    blkio_device_read_bps: Vec<Value>,
    blkio_device_write_bps: Vec<Value>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Vec<Value>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Vec<Value>,
    cpu_period: u64,
    cpu_quota: u64,
    cpu_realtime_period: i64,
    cpu_realtime_runtime: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    devices: Vec<Value>,
    device_cgroup_rules: Option<Vec<String>>,
    device_requests: Unset,
    memory_reservation: u64,
    memory_swap: u64,
    memory_swappiness: Unset,
    oom_kill_disable: Option<bool>,
    pids_limit: Option<i64>,
    ulimits: Vec<Value>,
    cpu_count: i64,
    cpu_percent: i64,
    #[serde(rename = "IOMaximumIOps")]
    io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth")]
    io_maximum_bandwidth: u64,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
}

impl HostConfig {
    #[rustfmt::skip]
    pub(super) fn of(view: &ContainerView) -> Self {
        let spec = &*view.spec;
        let memory = spec.limits.memory_bytes.unwrap_or(0);
        let size = spec.stdio.terminal_size.unwrap_or_default();
        let Limits { blkio_throttles, blkio_device_weights, .. } = &spec.limits;
        let throttles = |what| throttled(blkio_throttles, what);
        let [masked_paths, readonly_paths] = paths(&spec.security);
        Self {
            // What was asked for.
            annotations: spec.annotations.clone(),
            auto_remove: spec.auto_remove == AutoRemove::Remove,
            blkio_device_read_bps: throttles(Throttled::ReadBytes),
            blkio_device_read_iops: throttles(Throttled::Reads),
            blkio_device_write_bps: throttles(Throttled::WriteBytes),
            blkio_device_write_iops: throttles(Throttled::Writes),
            blkio_weight: spec.limits.blkio_weight.unwrap_or(0),
            blkio_weight_device: blkio_device_weights
                .iter().map(|device| json!({ "Path": device.path, "Weight": device.weight })).collect(),
            cap_add: filled(&names(&spec.security.added_capabilities)),
            cap_drop: filled(&names(&spec.security.dropped_capabilities)),
            cgroup_parent: spec.cgroup_parent.clone().unwrap_or_default(),
            cgroupns_mode: machine_or(spec.namespaces.cgroup, "private"),
            console_size: [size.rows, size.columns],
            cpu_period: spec.limits.cpu_period_us.unwrap_or(0),
            cpu_quota: spec.limits.cpu_quota_us.unwrap_or(0),
            cpu_shares: spec.limits.cpu_shares.unwrap_or(0),
            cpuset_cpus: spec.limits.cpuset_cpus.clone(),
            cpuset_mems: spec.limits.cpuset_mems.clone(),
            device_cgroup_rules: filled(&spec.device_rules.iter().map(ToString::to_string).collect::<Vec<_>>()),
            devices: spec.devices.iter().map(device).collect(),
            extra_hosts: filled(&spec.extra_hosts),
            group_add: filled(&spec.additional_groups),
            init: spec.init.then_some(true),
            ipc_mode: ipc_mode(&spec.namespaces),
            links: links(&view.name, &spec.network.links),
            masked_paths,
            memory,
            memory_reservation: spec.limits.memory_reservation_bytes.unwrap_or(0),
            // A machine has no swap: memory and swap together are the memory.
            memory_swap: memory,
            nano_cpus: spec.limits.nano_cpus.unwrap_or(0),
            oom_score_adj: spec.oom_score_adj,
            pid_mode: pid_mode(&spec.namespaces),
            pids_limit: spec.limits.pids,
            restart_policy: restart_policy(spec.restart),
            privileged: spec.security.privileged,
            readonly_paths,
            readonly_rootfs: spec.readonly_rootfs,
            security_opt: filled(&spec.security.options),
            shm_size: spec.shm_size_bytes.unwrap_or(DEFAULT_SHM_BYTES),
            sysctls: spec.sysctls.clone(),
            mounts: mounts::requests(spec),
            binds: mounts::binds(spec),
            volumes_from: mounts::volumes_from(spec),
            volume_driver: spec.mounts.volume_driver.clone(),
            runtime: spec.runtime.clone().unwrap_or_else(|| "berth".to_owned()),
            storage_opt: spec.storage_options.clone(),
            tmpfs: spec.tmpfs.clone(),
            ulimits: spec.ulimits.iter().map(ulimit).collect(),
            userns_mode: machine_or(spec.namespaces.user, ""),
            uts_mode: machine_or(spec.namespaces.uts, ""),
            // A word of Windows'; what Berth has to say of it is under `Berth`.
            isolation: "",
            // What every container has.
            log_config: json!({ "Type": spec.log.driver.name(), "Config": spec.log.options }),
            network_mode: network::mode(view).into_owned(),
            port_bindings: port_bindings(&spec.network.published),
            publish_all_ports: spec.network.publish_all,
            dns: spec.network.dns.servers.clone(),
            dns_options: spec.network.dns.options.clone(),
            dns_search: spec.network.dns.search.clone(),
            // What nobody can ask for yet.
            container_id_file: "", cgroup: "",
            cpu_realtime_period: 0, cpu_realtime_runtime: 0,
            device_requests: None, memory_swappiness: None, oom_kill_disable: None, cpu_count: 0, cpu_percent: 0,
            io_maximum_iops: 0, io_maximum_bandwidth: 0,
        }
    }
}

/// As they were asked for, by port of the container.
fn port_bindings(published: &[PortBinding]) -> Map<String, Value> {
    let mut bindings = Map::new();
    for binding in published {
        let ports = match binding.host_ports {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let address = binding.host_address.map(|address| address.to_string()).unwrap_or_default();
        let place = json!({ "HostIp": address, "HostPort": ports });
        match bindings.entry(format!("{}/{}", binding.port, binding.protocol)).or_insert(Value::Null) {
            Value::Array(places) => places.push(place),
            places => *places = json!([place]),
        }
    }
    bindings
}

fn restart_policy(policy: RestartPolicy) -> Value {
    let (name, max_retries) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", max_retries),
    };
    json!({ "Name": name, "MaximumRetryCount": max_retries })
}

/// As Docker shows them: paths of names.
fn links(name: &str, links: &[Link]) -> Option<Vec<String>> {
    let path = |link: &Link| format!("/{}:/{name}/{}", link.container, link.alias);
    filled(&links.iter().map(path).collect::<Vec<_>>())
}

fn filled(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn names(capabilities: &[CapabilityName]) -> Vec<String> {
    capabilities.iter().map(|name| name.as_str().to_owned()).collect()
}

fn pid_mode(namespaces: &Namespaces) -> String {
    match &namespaces.pid_of {
        Some(id) => format!("container:{id}"),
        None => machine_or(namespaces.pid, "").to_owned(),
    }
}

fn machine_or(namespace: Namespace, own: &'static str) -> &'static str {
    match namespace {
        Namespace::Own => own,
        Namespace::Machine => "host",
    }
}

fn ipc_mode(namespaces: &Namespaces) -> String {
    match &namespaces.ipc_of {
        Some(id) => format!("container:{id}"),
        None => own_ipc(namespaces.ipc).to_owned(),
    }
}

fn own_ipc(ipc: Ipc) -> &'static str {
    match ipc {
        Ipc::Private => "private",
        Ipc::Shareable => "shareable",
        Ipc::WithoutShm => "none",
        Ipc::Machine => "host",
    }
}

/// Masked and read-only ones; null for the privileged, who have none.
fn paths(security: &Security) -> [Option<Vec<String>>; 2] {
    let shown = |own: &Option<Vec<String>>, default: &[&str]| match own {
        Some(paths) => Some(paths.clone()),
        None if security.privileged => None,
        None => Some(default.iter().map(ToString::to_string).collect()),
    };
    [shown(&security.masked_paths, &MASKED_PATHS), shown(&security.readonly_paths, &READONLY_PATHS)]
}

fn throttled(throttles: &[DeviceThrottle], what: Throttled) -> Vec<Value> {
    let these = throttles.iter().filter(|throttle| throttle.what == what);
    these.map(|throttle| json!({ "Path": throttle.path, "Rate": throttle.rate })).collect()
}

fn device(device: &Device) -> Value {
    json!({
        "PathOnHost": device.path,
        "PathInContainer": device.path_in_container,
        "CgroupPermissions": device.access,
    })
}

fn ulimit(ulimit: &Ulimit) -> Value {
    json!({ "Name": ulimit.name, "Hard": ulimit.hard, "Soft": ulimit.soft })
}
