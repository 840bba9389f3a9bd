//! `/images/...`: one method per endpoint.

use bytes::Bytes;
use serde::Deserialize;

use super::download::Download;
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

/// One step of how an image was built.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HistoryEntry {
    pub(crate) id: String,
    /// Unix time in seconds.
    pub(crate) created: i64,
    pub(crate) created_by: String,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) comment: String,
}

/// What a prune of images did.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PrunedImages {
    pub(crate) images_deleted: Option<Vec<ImageRemoval>>,
    /// Bytes.
    pub(crate) space_reclaimed: u64,
}

/// What an imported image is to be.
#[derive(Debug)]
pub(crate) struct ImportRequest<'a> {
    pub(crate) repository: Option<&'a str>,
    pub(crate) tag: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
    pub(crate) changes: &'a [String],
    pub(crate) platform: Option<&'a str>,
}

/// What a committed image is to be.
#[derive(Debug)]
pub(crate) struct CommitRequest<'a> {
    pub(crate) container: &'a str,
    pub(crate) repository: Option<&'a str>,
    pub(crate) tag: Option<&'a str>,
    pub(crate) author: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
    pub(crate) changes: &'a [String],
    pub(crate) pause: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Committed {
    id: String,
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

    /// Sends the archive of a file system; the answer is a stream of progress.
    pub(crate) async fn import(
        &self,
        image: &ImportRequest<'_>,
        archive: Body,
    ) -> Result<JsonLines, ClientError> {
        let mut request = Request::post(&["images", "create"])
            .with("fromSrc", "-")
            .with_if_some("repo", image.repository)
            .with_if_some("tag", image.tag)
            .with_if_some("message", image.message)
            .with_if_some("platform", image.platform);
        for change in image.changes {
            request = request.with("changes", change);
        }
        let request = request.with_body(archive, "application/x-tar");
        Ok(JsonLines::new("import", self.send(request).await?))
    }

    /// The id of the new image.
    pub(crate) async fn commit(&self, image: &CommitRequest<'_>) -> Result<String, ClientError> {
        let mut request = Request::post(&["commit"])
            .with("container", image.container)
            .with_if_some("repo", image.repository)
            .with_if_some("tag", image.tag)
            .with_if_some("author", image.author)
            .with_if_some("comment", image.message)
            .with("pause", if image.pause { "1" } else { "0" });
        for change in image.changes {
            request = request.with("changes", change);
        }
        self.send_for_json(request).await.map(|committed: Committed| committed.id)
    }

    pub(crate) async fn save(
        &self,
        images: &[String],
        platform: Option<&str>,
    ) -> Result<Download, ClientError> {
        let mut request = Request::get(&["images", "get"]).with_if_some("platform", platform);
        for image in images {
            request = request.with("names", image);
        }
        Ok(Download::new("save", self.send(request).await?))
    }

    pub(crate) async fn tag(&self, source: &str, name: &str, tag: Option<&str>) -> Result<(), ClientError> {
        let request = Request::post(&["images", source, "tag"]).with("repo", name).with_if_some("tag", tag);
        self.send_for_nothing(request).await
    }

    /// Newest step first.
    pub(crate) async fn history(&self, name: &str) -> Result<Vec<HistoryEntry>, ClientError> {
        self.send_for_json(Request::get(&["images", name, "history"])).await
    }

    pub(crate) async fn prune_images(&self, filters: Option<&str>) -> Result<PrunedImages, ClientError> {
        self.send_for_json(Request::post(&["images", "prune"]).with_if_some("filters", filters)).await
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
