//! `/containers/...`: one method per endpoint.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use serde::Deserialize;

use super::request::Request;
use super::{Client, ClientError, CreateRequest, Download, Hijacked, collect};
use crate::terminal::Size;

/// A container that is removed at its end may be gone before anybody could inspect it: the start says it at once.
const TIMELINE_HEADER: &str = "berth-start-timeline";

/// What `POST /containers/create` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Created {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) warnings: Option<Vec<String>>,
}

/// What a prune of containers did.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PrunedContainers {
    pub(crate) containers_deleted: Option<Vec<String>>,
    /// Bytes.
    pub(crate) space_reclaimed: u64,
}

/// One line of `ps`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerSummary {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
    pub(crate) image: String,
    pub(crate) command: String,
    /// Unix time in seconds.
    pub(crate) created: i64,
    pub(crate) state: String,
    pub(crate) status: String,
    pub(crate) ports: Vec<Port>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network_settings: Option<NetworkSettings>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Port {
    #[serde(rename = "IP")]
    pub(crate) ip: String,
    #[serde(rename = "PrivatePort")]
    pub(crate) private_port: u16,
    #[serde(rename = "PublicPort")]
    pub(crate) public_port: u16,
    #[serde(rename = "Type")]
    pub(crate) protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mount {
    pub(crate) name: String,
    pub(crate) source: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkSettings {
    pub(crate) networks: BTreeMap<String, serde_json::Value>,
}

/// What of a container's description the verbs act on.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) state: ContainerState,
    pub(crate) config: ContainerConfig,
    pub(crate) host_config: ContainerHostConfig,
    pub(crate) network_settings: ContainerNetwork,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerState {
    pub(crate) running: bool,
    pub(crate) paused: bool,
    pub(crate) restarting: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerConfig {
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerHostConfig {
    pub(crate) auto_remove: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerNetwork {
    /// By port and protocol; null if not published.
    pub(crate) ports: BTreeMap<String, Option<Vec<PublishedPort>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PublishedPort {
    pub(crate) host_ip: String,
    pub(crate) host_port: String,
}

/// How long a part of a start took, as Berth's daemon measured it. The parts are consecutive.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct StartPhase {
    pub(crate) phase: String,
    pub(crate) milliseconds: f64,
}

/// Which streams an attached client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttachStreams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl AttachStreams {
    pub(crate) fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// What `GET /containers/{id}/logs` can be asked for; times are `seconds[.nanoseconds]` since the epoch.
#[derive(Debug, Default)]
pub(crate) struct LogsQuery {
    pub(crate) follow: bool,
    pub(crate) timestamps: bool,
    pub(crate) details: bool,
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) tail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    NotRunning,
    NextExit,
    Removed,
}

/// A wait that the daemon has accepted: the exit cannot be missed any more.
pub(crate) struct PendingExit {
    name: String,
    response: hyper::Response<Incoming>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WaitAnswer {
    status_code: i64,
    #[serde(default)]
    error: Option<WaitFailure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WaitFailure {
    message: String,
}

impl PendingExit {
    /// The container's exit status, once it has one.
    pub(crate) async fn status(self) -> Result<i64, ClientError> {
        let answer = self.answer().await?;
        match answer.error {
            Some(failure) if !failure.message.is_empty() => {
                Err(ClientError::Refused { status: 500, message: failure.message })
            }
            _ => Ok(answer.status_code),
        }
    }

    /// The status alone, whatever the container died of.
    pub(crate) async fn status_alone(self) -> Result<i64, ClientError> {
        Ok(self.answer().await?.status_code)
    }

    async fn answer(self) -> Result<WaitAnswer, ClientError> {
        let bytes = collect(&self.name, self.response).await?;
        serde_json::from_slice(&bytes)
            .map_err(|reason| ClientError::Nonsense { request: self.name, reason: reason.to_string() })
    }
}

/// A path of a container's that is not as in its image.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Change {
    pub(crate) path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub(crate) kind: u8,
}

impl Client {
    pub(crate) async fn create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        body: &CreateRequest,
    ) -> Result<Created, ClientError> {
        let request = Request::post(&["containers", "create"])
            .with_if_some("name", name)
            .with_if_some("platform", platform)
            .with_json(body);
        self.send_for_json(request).await
    }

    /// Returns where the time went, in order. Other daemons than Berth's do not say, and neither does ours of a
    /// container that runs already.
    pub(crate) async fn start(
        &self,
        id: &str,
        detach_keys: Option<&str>,
    ) -> Result<Vec<StartPhase>, ClientError> {
        let request = Request::post(&["containers", id, "start"]).with_if_some("detachKeys", detach_keys);
        let response = self.send(request).await?;
        let timeline = response.headers().get(TIMELINE_HEADER).map(HeaderValue::as_bytes);
        Ok(timeline.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default())
    }

    pub(crate) async fn attach(
        &self,
        id: &str,
        streams: AttachStreams,
        detach_keys: Option<&str>,
    ) -> Result<Hijacked, ClientError> {
        let request = Request::post(&["containers", id, "attach"])
            .with("stream", "1")
            .with_flag("stdin", streams.stdin)
            .with_flag("stdout", streams.stdout)
            .with_flag("stderr", streams.stderr)
            .with_if_some("detachKeys", detach_keys);
        self.hijack(request).await
    }

    /// Registers a wait; returns as soon as the daemon has confirmed it.
    pub(crate) async fn wait(&self, id: &str, until: WaitFor) -> Result<PendingExit, ClientError> {
        let condition = match until {
            WaitFor::NotRunning => "not-running",
            WaitFor::NextExit => "next-exit",
            WaitFor::Removed => "removed",
        };
        let request = Request::post(&["containers", id, "wait"]).with("condition", condition);
        let name = format!("wait for {id}");
        Ok(PendingExit { name, response: self.send(request).await? })
    }

    pub(crate) async fn logs(&self, id: &str, query: &LogsQuery) -> Result<Incoming, ClientError> {
        let request = Request::get(&["containers", id, "logs"])
            .with("stdout", "1")
            .with("stderr", "1")
            .with_flag("follow", query.follow)
            .with_flag("timestamps", query.timestamps)
            .with_flag("details", query.details)
            .with_if_some("since", query.since.as_deref())
            .with_if_some("until", query.until.as_deref())
            .with("tail", &query.tail);
        self.send(request).await.map(hyper::Response::into_body)
    }

    /// The daemon's JSON as it came.
    pub(crate) async fn inspect_container(&self, id: &str, size: bool) -> Result<Bytes, ClientError> {
        self.send_for_bytes(Request::get(&["containers", id, "json"]).with_flag("size", size)).await
    }

    /// The same, read as far as the verbs need it.
    pub(crate) async fn container(&self, id: &str) -> Result<Container, ClientError> {
        self.send_for_json(Request::get(&["containers", id, "json"])).await
    }

    /// `filters` is the JSON that the API wants, `limit` counts the newest containers.
    pub(crate) async fn list_containers(
        &self,
        all: bool,
        limit: Option<u32>,
        filters: Option<&str>,
    ) -> Result<Vec<ContainerSummary>, ClientError> {
        let limit = limit.map(|count| count.to_string());
        let request = Request::get(&["containers", "json"])
            .with_flag("all", all)
            .with_if_some("limit", limit.as_deref())
            .with_if_some("filters", filters);
        self.send_for_json(request).await
    }

    /// `timeout_seconds` below zero means: never kill.
    pub(crate) async fn stop(
        &self,
        id: &str,
        signal: Option<&str>,
        timeout_seconds: Option<i64>,
    ) -> Result<(), ClientError> {
        self.send_for_nothing(stop_like(id, "stop", signal, timeout_seconds)).await
    }

    pub(crate) async fn restart(
        &self,
        id: &str,
        signal: Option<&str>,
        timeout_seconds: Option<i64>,
    ) -> Result<(), ClientError> {
        self.send_for_nothing(stop_like(id, "restart", signal, timeout_seconds)).await
    }

    pub(crate) async fn rename(&self, id: &str, name: &str) -> Result<(), ClientError> {
        self.send_for_nothing(Request::post(&["containers", id, "rename"]).with("name", name)).await
    }

    pub(crate) async fn kill(&self, id: &str, signal: Option<&str>) -> Result<(), ClientError> {
        let request = Request::post(&["containers", id, "kill"]).with_if_some("signal", signal);
        self.send_for_nothing(request).await
    }

    pub(crate) async fn remove_container(
        &self,
        id: &str,
        force: bool,
        volumes: bool,
    ) -> Result<(), ClientError> {
        let request = Request::delete(&["containers", id]).with_flag("force", force).with_flag("v", volumes);
        self.send_for_nothing(request).await
    }

    /// How its file system differs from its image's.
    pub(crate) async fn changes(&self, id: &str) -> Result<Vec<Change>, ClientError> {
        let changes: Option<_> = self.send_for_json(Request::get(&["containers", id, "changes"])).await?;
        Ok(changes.unwrap_or_default())
    }

    /// Its file system as an archive.
    pub(crate) async fn export(&self, id: &str) -> Result<Download, ClientError> {
        let request = Request::get(&["containers", id, "export"]);
        Ok(Download::new("export", self.send(request).await?))
    }

    pub(crate) async fn prune_containers(
        &self,
        filters: Option<&str>,
    ) -> Result<PrunedContainers, ClientError> {
        self.send_for_json(Request::post(&["containers", "prune"]).with_if_some("filters", filters)).await
    }

    pub(crate) async fn resize_container(&self, id: &str, size: Size) -> Result<(), ClientError> {
        self.send_for_nothing(with_size(Request::post(&["containers", id, "resize"]), size)).await
    }
}

fn stop_like(id: &str, verb: &str, signal: Option<&str>, timeout_seconds: Option<i64>) -> Request {
    let timeout = timeout_seconds.map(|seconds| seconds.to_string());
    Request::post(&["containers", id, verb])
        .with_if_some("signal", signal)
        .with_if_some("t", timeout.as_deref())
}

pub(super) fn with_size(request: Request, size: Size) -> Request {
    request.with("h", &size.rows.to_string()).with("w", &size.columns.to_string())
}
