//! `/volumes/...`: one method per endpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::request::Request;
use super::{Client, ClientError};

/// One entry of `GET /volumes`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VolumeSummary {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) scope: String,
    pub(crate) mountpoint: String,
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Listed {
    volumes: Option<Vec<VolumeSummary>>,
}

/// What a volume is to be.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeRequest {
    /// Empty: the daemon finds one.
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) driver_opts: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// What a prune removed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PrunedVolumes {
    pub(crate) volumes_deleted: Option<Vec<String>>,
    /// Bytes.
    pub(crate) space_reclaimed: u64,
}

impl Client {
    pub(crate) async fn list_volumes(
        &self,
        filters: Option<&str>,
    ) -> Result<Vec<VolumeSummary>, ClientError> {
        let request = Request::get(&["volumes"]).with_if_some("filters", filters);
        let listed: Listed = self.send_for_json(request).await?;
        Ok(listed.volumes.unwrap_or_default())
    }

    /// Returns the volume's name.
    pub(crate) async fn create_volume(&self, volume: &VolumeRequest) -> Result<String, ClientError> {
        let request = Request::post(&["volumes", "create"]).with_json(volume);
        let created: VolumeSummary = self.send_for_json(request).await?;
        Ok(created.name)
    }

    pub(crate) async fn inspect_volume(&self, name: &str) -> Result<Bytes, ClientError> {
        self.send_for_bytes(Request::get(&["volumes", name])).await
    }

    pub(crate) async fn remove_volume(&self, name: &str, force: bool) -> Result<(), ClientError> {
        let force = force.then_some("1");
        self.send_for_nothing(Request::delete(&["volumes", name]).with_if_some("force", force)).await
    }

    pub(crate) async fn prune_volumes(&self, filters: Option<&str>) -> Result<PrunedVolumes, ClientError> {
        let request = Request::post(&["volumes", "prune"]).with_if_some("filters", filters);
        self.send_for_json(request).await
    }
}
