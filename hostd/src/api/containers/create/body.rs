//! The fields of a create request that Berth acts on, as Docker spells them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

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
    pub(super) image: String,
    pub(super) working_dir: String,
    #[serde(deserialize_with = "words")]
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) stop_signal: String,
    pub(super) stop_timeout: Option<i64>,
}

/// What the container gets of its machine.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostConfig {
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) auto_remove: bool,
    pub(super) binds: Vec<String>,
    /// Rows and columns.
    pub(super) console_size: Option<[u16; 2]>,
    pub(super) cpu_period: i64,
    pub(super) cpu_quota: i64,
    pub(super) extra_hosts: Vec<String>,
    pub(super) group_add: Vec<String>,
    pub(super) init: Option<bool>,
    /// Bytes.
    pub(super) memory: i64,
    /// Memory and swap together, in bytes.
    pub(super) memory_swap: i64,
    pub(super) mounts: Vec<Mount>,
    /// 1e-9 CPUs.
    pub(super) nano_cpus: i64,
    pub(super) pids_limit: i64,
    pub(super) readonly_rootfs: bool,
    pub(super) restart_policy: RestartPolicy,
    /// Bytes.
    pub(super) shm_size: i64,
    pub(super) tmpfs: BTreeMap<String, String>,
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
    pub(super) bind_options: Option<Value>,
    pub(super) volume_options: Option<Value>,
    pub(super) image_options: Option<Value>,
    pub(super) tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TmpfsOptions {
    pub(super) size_bytes: i64,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) options: Vec<Vec<String>>,
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
