//! The fields of a create request that Berth acts on, as Docker spells them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::network::HostPort;

/// The container itself: what runs in it and how.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    pub(super) hostname: String,
    pub(super) domainname: String,
    pub(super) user: String,
    pub(super) attach_stdin: bool,
    pub(super) attach_stdout: bool,
    pub(super) attach_stderr: bool,
    pub(super) exposed_ports: BTreeMap<String, Value>,
    pub(super) tty: bool,
    pub(super) open_stdin: bool,
    pub(super) stdin_once: bool,
    pub(super) env: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub(super) cmd: Option<Vec<String>>,
    pub(super) healthcheck: Option<Healthcheck>,
    pub(super) image: String,
    pub(super) working_dir: String,
    #[serde(deserialize_with = "words")]
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) stop_signal: String,
    pub(super) stop_timeout: Option<i64>,
    pub(super) mac_address: String,
    pub(super) network_disabled: bool,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) volumes: BTreeMap<String, Value>,
}

/// How the container is asked for its health. Durations in nanoseconds.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Healthcheck {
    #[serde(deserialize_with = "null_as_default")]
    pub(super) test: Vec<String>,
    pub(super) interval: i64,
    pub(super) timeout: i64,
    pub(super) start_period: i64,
    pub(super) start_interval: i64,
    pub(super) retries: i64,
}

/// What the container gets of its machine.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostConfig {
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) auto_remove: bool,
    pub(super) binds: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) blkio_device_read_bps: Vec<ThrottleDevice>,
    #[serde(rename = "BlkioDeviceReadIOps", deserialize_with = "list")]
    pub(super) blkio_device_read_iops: Vec<ThrottleDevice>,
    #[serde(deserialize_with = "list")]
    pub(super) blkio_device_write_bps: Vec<ThrottleDevice>,
    #[serde(rename = "BlkioDeviceWriteIOps", deserialize_with = "list")]
    pub(super) blkio_device_write_iops: Vec<ThrottleDevice>,
    pub(super) blkio_weight: u16,
    #[serde(deserialize_with = "list")]
    pub(super) blkio_weight_device: Vec<WeightDevice>,
    #[serde(deserialize_with = "list")]
    pub(super) cap_add: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) cap_drop: Vec<String>,
    pub(super) cgroup_parent: String,
    pub(super) cgroupns_mode: String,
    /// Rows and columns.
    pub(super) console_size: Option<[u16; 2]>,
    pub(super) cpu_period: i64,
    pub(super) cpu_quota: i64,
    pub(super) cpu_shares: i64,
    pub(super) cpuset_cpus: String,
    pub(super) cpuset_mems: String,
    #[serde(deserialize_with = "list")]
    pub(super) device_cgroup_rules: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) device_requests: Vec<DeviceRequest>,
    #[serde(deserialize_with = "list")]
    pub(super) devices: Vec<Device>,
    pub(super) extra_hosts: Vec<String>,
    pub(super) group_add: Vec<String>,
    pub(super) init: Option<bool>,
    pub(super) ipc_mode: String,
    /// `None` is Docker's list, an empty one is none.
    pub(super) masked_paths: Option<Vec<String>>,
    pub(super) log_config: LogConfig,
    /// Bytes.
    pub(super) memory: i64,
    /// Bytes.
    pub(super) memory_reservation: i64,
    /// Memory and swap together, in bytes.
    pub(super) memory_swap: i64,
    pub(super) mounts: Vec<Mount>,
    /// 1e-9 CPUs.
    pub(super) nano_cpus: i64,
    pub(super) oom_kill_disable: Option<bool>,
    pub(super) oom_score_adj: i64,
    pub(super) pid_mode: String,
    pub(super) pids_limit: i64,
    pub(super) privileged: bool,
    pub(super) readonly_paths: Option<Vec<String>>,
    pub(super) readonly_rootfs: bool,
    pub(super) restart_policy: RestartPolicy,
    pub(super) runtime: String,
    #[serde(deserialize_with = "list")]
    pub(super) security_opt: Vec<String>,
    /// Bytes.
    pub(super) shm_size: i64,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) storage_opt: BTreeMap<String, String>,
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) tmpfs: BTreeMap<String, String>,
    #[serde(deserialize_with = "list")]
    pub(super) volumes_from: Vec<String>,
    pub(super) volume_driver: String,
    #[serde(rename = "UTSMode")]
    pub(super) uts_mode: String,
    #[serde(deserialize_with = "list")]
    pub(super) ulimits: Vec<Ulimit>,
    pub(super) userns_mode: String,
    pub(super) network_mode: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) port_bindings: BTreeMap<String, Option<Vec<HostPort>>>,
    pub(super) publish_all_ports: bool,
    #[serde(deserialize_with = "list")]
    pub(super) links: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) dns: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) dns_options: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) dns_search: Vec<String>,
}

/// Of the machine that the container runs in.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Device {
    pub(super) path_on_host: String,
    pub(super) path_in_container: String,
    pub(super) cgroup_permissions: String,
}

/// A device that some driver of the host's is to choose.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DeviceRequest {
    #[serde(deserialize_with = "null_as_default")]
    pub(super) driver: String,
    #[serde(deserialize_with = "list")]
    pub(super) capabilities: Vec<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Ulimit {
    pub(super) name: String,
    pub(super) soft: i64,
    pub(super) hard: i64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ThrottleDevice {
    pub(super) path: String,
    /// Bytes or operations per second.
    pub(super) rate: u64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct WeightDevice {
    pub(super) path: String,
    pub(super) weight: u16,
}

/// Who keeps the container's output, and how.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct LogConfig {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) config: BTreeMap<String, String>,
}

/// What follows the end of a run.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api) struct RestartPolicy {
    pub(super) name: String,
    pub(super) maximum_retry_count: i64,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Mount {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    pub(super) consistency: String,
    pub(super) bind_options: Option<BindOptions>,
    pub(super) volume_options: Option<VolumeOptions>,
    pub(super) image_options: Option<ImageOptions>,
    pub(super) tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct BindOptions {
    pub(super) propagation: String,
    pub(super) non_recursive: bool,
    pub(super) create_mountpoint: bool,
    pub(super) read_only_non_recursive: bool,
    pub(super) read_only_force_recursive: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ImageOptions {
    pub(super) subpath: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct VolumeOptions {
    pub(super) no_copy: bool,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) driver_config: Option<VolumeDriver>,
    pub(super) subpath: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct VolumeDriver {
    pub(super) name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(super) options: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TmpfsOptions {
    pub(super) size_bytes: i64,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) options: Vec<Vec<String>>,
}

pub(super) fn null_as_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Docker takes one string for a list of one.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of strings")]
    enum Words {
        One(String),
        Several(Vec<String>),
    }
    Ok(Option::deserialize(deserializer)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Several(words) => words,
    }))
}

/// Clients write a list that nobody filled as null.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
