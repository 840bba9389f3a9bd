//! `/containers/{id}/archive`: files of a container, looked at, read and written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Response;
use hyper::body::Incoming;
use serde::Deserialize;

use super::request::Request;
use super::{Body, Client, ClientError, Download};

const STAT_HEADER: &str = "x-docker-container-path-stat";

/// Bits of Go's `os.FileMode`.
const DIRECTORY: u32 = 1 << 31;
const SYMBOLIC_LINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;

/// What is at a path of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PathStat {
    mode: u32,
    /// Of a symbolic link: where it leads to in the end.
    pub(crate) link_target: String,
}

impl PathStat {
    pub(crate) fn is_directory(&self) -> bool {
        self.mode & DIRECTORY != 0
    }

    pub(crate) fn is_link(&self) -> bool {
        self.mode & SYMBOLIC_LINK != 0
    }

    pub(crate) fn is_device(&self) -> bool {
        self.mode & DEVICE != 0
    }
}

/// Where files are to be written, and as whose.
#[derive(Debug)]
pub(crate) struct PutRequest<'a> {
    pub(crate) directory: &'a str,
    /// The container's user, not the archive's.
    pub(crate) owned_by_user: bool,
}

impl Client {
    pub(crate) async fn stat_path(&self, container: &str, path: &str) -> Result<PathStat, ClientError> {
        let request = Request::head(&["containers", container, "archive"]).with("path", path);
        stat_of("stat", &self.send(request).await?)
    }

    pub(crate) async fn get_archive(
        &self,
        container: &str,
        path: &str,
    ) -> Result<(PathStat, Download), ClientError> {
        let request = Request::get(&["containers", container, "archive"]).with("path", path);
        let response = self.send(request).await?;
        Ok((stat_of("copy", &response)?, Download::new("copy", response)))
    }

    pub(crate) async fn put_archive(
        &self,
        container: &str,
        put: &PutRequest<'_>,
        archive: Body,
    ) -> Result<(), ClientError> {
        let request = Request::put(&["containers", container, "archive"])
            .with("path", put.directory)
            .with("noOverwriteDirNonDir", "true")
            .with_flag("copyUIDGID", put.owned_by_user)
            .with_body(archive, "application/x-tar");
        self.send_for_nothing(request).await
    }
}

fn stat_of(request: &str, response: &Response<Incoming>) -> Result<PathStat, ClientError> {
    let nonsense = |reason: &str| ClientError::Nonsense { request: request.into(), reason: reason.into() };
    let header =
        response.headers().get(STAT_HEADER).ok_or_else(|| nonsense("it tells nothing of the path"))?;
    let json = STANDARD.decode(header.as_bytes()).map_err(|error| nonsense(&error.to_string()))?;
    serde_json::from_slice(&json).map_err(|error| nonsense(&error.to_string()))
}
