//! What is asked of a container that runs: to stand still, to keep to other limits, and how it does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::Request;
use super::{Client, ClientError, JsonLines, RestartPolicy};

/// A container's processes, in the columns that were asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Top {
    pub(crate) titles: Vec<String>,
    pub(crate) processes: Vec<Vec<String>>,
}

/// What is to change; what is absent stays as it is.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_reservation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_swap: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nano_cpus: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_shares: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpuset_cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpuset_mems: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pids_limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blkio_weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restart_policy: Option<RestartPolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Updated {
    pub(crate) warnings: Option<Vec<String>>,
}

/// One look at a container's counters, and at those of a moment before.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) cpu_stats: CpuStats,
    pub(crate) precpu_stats: CpuStats,
    pub(crate) memory_stats: MemoryStats,
    pub(crate) pids_stats: PidsStats,
    pub(crate) blkio_stats: BlkioStats,
    pub(crate) networks: BTreeMap<String, NetworkStats>,
}

/// Nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CpuStats {
    pub(crate) cpu_usage: CpuUsage,
    pub(crate) system_cpu_usage: u64,
    pub(crate) online_cpus: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CpuUsage {
    pub(crate) total_usage: u64,
}

/// Bytes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MemoryStats {
    pub(crate) usage: u64,
    pub(crate) limit: u64,
    pub(crate) stats: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PidsStats {
    pub(crate) current: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BlkioStats {
    pub(crate) io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BlkioEntry {
    pub(crate) op: String,
    pub(crate) value: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NetworkStats {
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
}

impl Client {
    pub(crate) async fn pause(&self, id: &str) -> Result<(), ClientError> {
        self.send_for_nothing(Request::post(&["containers", id, "pause"])).await
    }

    pub(crate) async fn unpause(&self, id: &str) -> Result<(), ClientError> {
        self.send_for_nothing(Request::post(&["containers", id, "unpause"])).await
    }

    pub(crate) async fn top(&self, id: &str, ps_arguments: Option<&str>) -> Result<Top, ClientError> {
        self.send_for_json(Request::get(&["containers", id, "top"]).with_if_some("ps_args", ps_arguments))
            .await
    }

    pub(crate) async fn update(&self, id: &str, change: &UpdateRequest) -> Result<Updated, ClientError> {
        self.send_for_json(Request::post(&["containers", id, "update"]).with_json(change)).await
    }

    /// One look, which takes the daemon a second.
    pub(crate) async fn stats(&self, id: &str) -> Result<Stats, ClientError> {
        self.send_for_json(Request::get(&["containers", id, "stats"]).with("stream", "0")).await
    }

    /// A look every second.
    pub(crate) async fn stats_stream(&self, id: &str) -> Result<JsonLines, ClientError> {
        let response = self.send(Request::get(&["containers", id, "stats"]).with("stream", "1")).await?;
        Ok(JsonLines::new("GET /containers/{id}/stats", response))
    }
}
