//! The `HostConfig` of an inspected container: what Berth acts on, and for everything else the value that asks for
//! nothing, in Docker's order.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::{
    AutoRemove, ContainerSpec, DEFAULT_SHM_BYTES, MASKED_PATHS, READONLY_PATHS, RestartPolicy,
};

/// A list nobody filled.
type Unset = Option<()>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    binds: Unset,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: &'static str,
    log_config: Value,
    network_mode: &'static str,
    port_bindings: BTreeMap<String, ()>,
    restart_policy: Value,
    auto_remove: bool,
    volume_driver: &'static str,
    volumes_from: Unset,
    console_size: [u16; 2],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    cap_add: Unset,
    cap_drop: Unset,
    cgroupns_mode: &'static str,
    dns: [(); 0],
    dns_options: [(); 0],
    dns_search: [(); 0],
    extra_hosts: Option<Vec<String>>,
    group_add: Option<Vec<String>>,
    ipc_mode: &'static str,
    cgroup: &'static str,
    links: Unset,
    oom_score_adj: i64,
    pid_mode: &'static str,
    privileged: bool,
    publish_all_ports: bool,
    readonly_rootfs: bool,
    security_opt: Unset,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tmpfs: BTreeMap<String, String>,
    #[serde(rename = "UTSMode")]
    uts_mode: &'static str,
    userns_mode: &'static str,
    shm_size: u64,
    runtime: &'static str,
    isolation: &'static str,
    cpu_shares: i64,
    memory: u64,
    nano_cpus: u64,
    cgroup_parent: &'static str,
    blkio_weight: u16,
    blkio_weight_device: [(); 0],
    blkio_device_read_bps: [(); 0],
    blkio_device_write_bps: [(); 0],
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: [(); 0],
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: [(); 0],
    cpu_period: i64,
    cpu_quota: i64,
    cpu_realtime_period: i64,
    cpu_realtime_runtime: i64,
    cpuset_cpus: &'static str,
    cpuset_mems: &'static str,
    devices: [(); 0],
    device_cgroup_rules: Unset,
    device_requests: Unset,
    memory_reservation: i64,
    memory_swap: u64,
    memory_swappiness: Unset,
    oom_kill_disable: bool,
    pids_limit: Option<i64>,
    ulimits: [(); 0],
    cpu_count: i64,
    cpu_percent: i64,
    #[serde(rename = "IOMaximumIOps")]
    io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth")]
    io_maximum_bandwidth: u64,
    masked_paths: &'static [&'static str],
    readonly_paths: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<bool>,
}

impl From<&ContainerSpec> for HostConfig {
    #[rustfmt::skip]
    fn from(spec: &ContainerSpec) -> Self {
        let memory = spec.limits.memory_bytes.unwrap_or(0);
        let size = spec.stdio.terminal_size.unwrap_or_default();
        Self {
            // What was asked for.
            annotations: spec.annotations.clone(),
            auto_remove: spec.auto_remove == AutoRemove::Remove,
            console_size: [size.rows, size.columns],
            extra_hosts: filled(&spec.extra_hosts),
            group_add: filled(&spec.additional_groups),
            init: spec.init.then_some(true),
            memory,
            // A machine has no swap: memory and swap together are the memory.
            memory_swap: memory,
            nano_cpus: spec.limits.nano_cpus.unwrap_or(0),
            pids_limit: spec.limits.pids,
            restart_policy: restart_policy(spec.restart),
            readonly_rootfs: spec.readonly_rootfs,
            shm_size: spec.shm_size_bytes.unwrap_or(DEFAULT_SHM_BYTES),
            tmpfs: spec.tmpfs.clone(),
            // What every container has.
            cgroupns_mode: "private",
            ipc_mode: "private",
            isolation: "machine",
            log_config: json!({ "Type": "json-file", "Config": {} }),
            masked_paths: &MASKED_PATHS,
            network_mode: "none",
            readonly_paths: &READONLY_PATHS,
            runtime: "berth",
            // What nobody can ask for yet.
            binds: None, container_id_file: "", port_bindings: BTreeMap::new(), volume_driver: "",
            volumes_from: None, cap_add: None, cap_drop: None, dns: [], dns_options: [], dns_search: [], cgroup: "",
            links: None, oom_score_adj: 0, pid_mode: "", privileged: false, publish_all_ports: false,
            security_opt: None, uts_mode: "", userns_mode: "", cpu_shares: 0, cgroup_parent: "", blkio_weight: 0,
            blkio_weight_device: [], blkio_device_read_bps: [], blkio_device_write_bps: [],
            blkio_device_read_iops: [], blkio_device_write_iops: [], cpu_period: 0, cpu_quota: 0,
            cpu_realtime_period: 0, cpu_realtime_runtime: 0, cpuset_cpus: "", cpuset_mems: "", devices: [],
            device_cgroup_rules: None, device_requests: None, memory_reservation: 0, memory_swappiness: None,
            oom_kill_disable: false, ulimits: [], cpu_count: 0, cpu_percent: 0, io_maximum_iops: 0,
            io_maximum_bandwidth: 0,
        }
    }
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

fn filled(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}
