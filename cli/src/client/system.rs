//! `/version`, `/info`, `/events`, `/system/df` and `/berth/check`.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;

use super::json_lines::JsonLines;
use super::request::Request;
use super::{Client, ClientError};

/// What `GET /events` can be asked for; times are `seconds[.nanoseconds]` since the epoch.
#[derive(Debug, Default)]
pub(crate) struct EventsQuery {
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    /// The JSON that the API wants.
    pub(crate) filters: Option<String>,
}

/// What images, containers and volumes take.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DiskUsage {
    /// Bytes of all layers, each once.
    pub(crate) layers_size: u64,
    pub(crate) images: Vec<ImageSize>,
    pub(crate) containers: Vec<ContainerSize>,
    pub(crate) volumes: Option<Vec<VolumeSize>>,
    pub(crate) berth: HostUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageSize {
    pub(crate) id: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    /// Unix time in seconds.
    pub(crate) created: i64,
    /// Bytes; what is negative was not computed.
    pub(crate) size: u64,
    shared_size: i64,
    pub(crate) containers: i64,
}

impl ImageSize {
    pub(crate) fn shared_bytes(&self) -> u64 {
        u64::try_from(self.shared_size).unwrap_or(0)
    }

    pub(crate) fn unique_bytes(&self) -> u64 {
        self.size.saturating_sub(self.shared_bytes())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerSize {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
    pub(crate) image: String,
    pub(crate) command: String,
    /// Unix time in seconds.
    pub(crate) created: i64,
    pub(crate) state: String,
    pub(crate) status: String,
    /// Bytes that it wrote.
    pub(crate) size_rw: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VolumeSize {
    pub(crate) name: String,
    usage_data: VolumeUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeUsage {
    size: i64,
    ref_count: i64,
}

impl VolumeSize {
    /// What is negative was not computed.
    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.usage_data.size).unwrap_or(0)
    }

    /// How many containers have it.
    pub(crate) fn holders(&self) -> i64 {
        self.usage_data.ref_count.max(0)
    }
}

/// Blocks of the host's disk; nothing of it from a daemon that is not Berth's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostUsage {
    pub(crate) images_allocated_bytes: u64,
    pub(crate) containers_written_bytes: u64,
    /// By image id.
    pub(crate) images: HashMap<String, ImageOnHost>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageOnHost {
    pub(crate) allocated_bytes: u64,
}

impl Client {
    pub(crate) async fn disk_usage(&self) -> Result<DiskUsage, ClientError> {
        self.send_for_json(Request::get(&["system", "df"])).await
    }

    /// Has the daemon check its image store; the answer is a stream of progress with the report at its end.
    pub(crate) async fn check(&self, repair: bool) -> Result<JsonLines, ClientError> {
        let request = Request::post(&["berth", "check"]).with_flag("repair", repair);
        Ok(JsonLines::new("check", self.send(request).await?))
    }

    /// The daemon's JSON as it came.
    pub(crate) async fn daemon_version(&self) -> Result<Bytes, ClientError> {
        self.send_for_bytes(Request::get(&["version"])).await
    }

    /// The daemon's JSON as it came.
    pub(crate) async fn info(&self) -> Result<Bytes, ClientError> {
        self.send_for_bytes(Request::get(&["info"])).await
    }

    pub(crate) async fn events(&self, query: &EventsQuery) -> Result<JsonLines, ClientError> {
        let request = Request::get(&["events"])
            .with_if_some("since", query.since.as_deref())
            .with_if_some("until", query.until.as_deref())
            .with_if_some("filters", query.filters.as_deref());
        Ok(JsonLines::new("events", self.send(request).await?))
    }
}
