//! `/images/...`: one method per endpoint.

use bytes::Bytes;
use serde::Deserialize;

use super::json_lines::JsonLines;
use super::request::{Body, Request};
use super::{Client, ClientError};

/// One entry of `GET /images/json`; it becomes one line per name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageSummary {
    pub(crate) id: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) repo_digests: Option<Vec<String>>,
    /// Unix time in seconds.
    pub(crate) created: i64,
    /// Bytes.
    pub(crate) size: u64,
}

/// What removing an image did, one entry a step.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageRemoval {
    pub(crate) untagged: Option<String>,
    pub(crate) deleted: Option<String>,
}

impl Client {
    pub(crate) async fn list_images(
        &self,
        all: bool,
        filters: Option<&str>,
    ) -> Result<Vec<ImageSummary>, ClientError> {
        let request =
            Request::get(&["images", "json"]).with_flag("all", all).with_if_some("filters", filters);
        self.send_for_json(request).await
    }

    /// Sends an archive; the answer is a stream of progress.
    pub(crate) async fn load(
        &self,
        archive: Body,
        quiet: bool,
        platform: Option<&str>,
    ) -> Result<JsonLines, ClientError> {
        let request = Request::post(&["images", "load"])
            .with("quiet", if quiet { "1" } else { "0" })
            .with_if_some("platform", platform)
            .with_body(archive, "application/x-tar");
        Ok(JsonLines::new("load", self.send(request).await?))
    }

    /// The daemon's JSON as it came.
    pub(crate) async fn inspect_image(&self, name: &str) -> Result<Bytes, ClientError> {
        self.send_for_bytes(Request::get(&["images", name, "json"])).await
    }

    pub(crate) async fn remove_image(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<ImageRemoval>, ClientError> {
        let request =
            Request::delete(&["images", name]).with_flag("force", force).with_flag("noprune", no_prune);
        self.send_for_json(request).await
    }
}
