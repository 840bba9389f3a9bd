//! The Engine API from the client's side: connect, negotiate the version, send, and read the answer.
//! What each endpoint means is in one file per family of endpoints; none of it knows about terminals or flags.

mod archive;
mod connection;
mod containers;
mod control;
mod create_request;
mod download;
mod error;
mod exec;
mod images;
mod json_lines;
mod networks;
mod registry;
mod request;
mod system;
mod volumes;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE, USER_AGENT};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

pub(crate) use archive::PutRequest;
pub(crate) use containers::{
    AttachStreams, Change, Container, ContainerSummary, LogsQuery, PendingExit, Port, PublishedPort,
    StartPhase, WaitFor,
};
pub(crate) use control::{Stats, UpdateRequest};
pub(crate) use create_request::{
    BindOptions, CreateRequest, Device, Healthcheck, HostConfig, Mount, NetworkingConfig, PortBinding,
    RestartPolicy, ThrottleDevice, TmpfsOptions, Ulimit, VolumeOptions, WeightDevice,
};
pub(crate) use download::Download;
pub(crate) use error::ClientError;
pub(crate) use exec::ExecRequest;
pub(crate) use images::{CommitRequest, HistoryEntry, ImageSummary, ImportRequest};
pub(crate) use json_lines::JsonLines;
pub(crate) use networks::{
    Connection, EndpointAddresses, EndpointSettings, Ipam, NetworkRequest, NetworkSummary, SubnetRequest,
};
pub(crate) use registry::{Manifest, PullRequest, SearchResult};
pub(crate) use request::Body;
use request::Request;
pub(crate) use system::{ContainerSize, DiskUsage, EventsQuery, ImageSize, VolumeSize};
pub(crate) use volumes::{VolumeRequest, VolumeSummary};

use crate::host::Host;

/// The newest API version whose answers we know how to read.
pub(crate) const API_VERSION: &str = "1.51";
/// An answer larger than this is no answer: it bounds what a broken daemon makes us hold in memory.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Who the user is at a registry, in base64.
const REGISTRY_AUTH: &str = "X-Registry-Auth";

/// A connection's raw bytes after the daemon switched protocols; shutting down the writer closes only our half.
pub(crate) type Hijacked = TokioIo<hyper::upgrade::Upgraded>;

pub(crate) struct Client {
    host: Host,
    /// The version both sides speak, asked for once.
    version: OnceCell<String>,
}

/// Docker's shape of an error.
#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

impl Client {
    pub(crate) fn new(host: Host) -> Self {
        Self { host, version: OnceCell::new() }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The API version of this conversation: ours, or the daemon's where that is older.
    pub(crate) async fn version(&self) -> Result<&str, ClientError> {
        self.version
            .get_or_try_init(|| async {
                let response = self.send_raw(Request::get(&["_ping"]), None).await?;
                let theirs = response.headers().get("api-version").and_then(|value| value.to_str().ok());
                Ok(older_of(API_VERSION, theirs.unwrap_or(API_VERSION)).to_owned())
            })
            .await
            .map(String::as_str)
    }

    /// Sends a request and returns the answer once its headers are there; a refusal is an error.
    async fn send(&self, request: Request) -> Result<Response<Incoming>, ClientError> {
        let version = self.version().await?;
        self.send_raw(request, Some(version)).await
    }

    async fn send_raw(
        &self,
        request: Request,
        version: Option<&str>,
    ) -> Result<Response<Incoming>, ClientError> {
        let name = request.name();
        let builder = builder(&request, version);
        self.exchange(&name, builder, request.body).await
    }

    async fn exchange(
        &self,
        name: &str,
        builder: hyper::http::request::Builder,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = builder.body(body).map_err(|source| broken(name, source))?;
        let mut sender = connection::open(&self.host).await?;
        let response = sender.send_request(request).await.map_err(|source| broken(name, source))?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(refusal(name, status, response).await);
        }
        Ok(response)
    }

    async fn send_for_json<T: DeserializeOwned>(&self, request: Request) -> Result<T, ClientError> {
        let name = request.name();
        let bytes = self.send_for_bytes(request).await?;
        serde_json::from_slice(&bytes)
            .map_err(|reason| ClientError::Nonsense { request: name, reason: reason.to_string() })
    }

    async fn send_for_bytes(&self, request: Request) -> Result<Bytes, ClientError> {
        let name = request.name();
        let response = self.send(request).await?;
        collect(&name, response).await
    }

    /// Sends a request whose answer has nothing to read.
    async fn send_for_nothing(&self, request: Request) -> Result<(), ClientError> {
        self.send_for_bytes(request).await.map(drop)
    }

    /// Sends a request and takes the connection over: what the daemon says after its `101` is the stream.
    async fn hijack(&self, request: Request) -> Result<Hijacked, ClientError> {
        let name = request.name();
        let version = self.version().await?;
        let builder = builder(&request, Some(version)).header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        let response = self.exchange(&name, builder, request.body).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let reason = format!("expected 101, got {}", response.status());
            return Err(ClientError::Nonsense { request: name, reason });
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|source| broken(&name, source))?;
        Ok(TokioIo::new(upgraded))
    }
}

fn builder(request: &Request, version: Option<&str>) -> hyper::http::request::Builder {
    let builder = hyper::Request::builder()
        .method(&request.method)
        .uri(request.target(version))
        .header(HOST, "berth")
        .header(USER_AGENT, concat!("Berth-Client/", env!("CARGO_PKG_VERSION")));
    let builder = match request.content_type {
        Some(content_type) => builder.header(CONTENT_TYPE, content_type),
        None => builder,
    };
    match &request.registry_auth {
        Some(auth) => builder.header(REGISTRY_AUTH, auth),
        None => builder,
    }
}

fn broken(request: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Broken { request: request.to_owned(), source: source.into() }
}

async fn collect(name: &str, response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|source| broken(name, source))
}

/// The daemon's words if it gave any, else its status.
async fn refusal(name: &str, status: StatusCode, response: Response<Incoming>) -> ClientError {
    let bytes = match collect(name, response).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    let message = match serde_json::from_slice::<ErrorBody>(&bytes) {
        Ok(body) => body.message,
        Err(_) if bytes.is_empty() => format!("{name}: {status}"),
        Err(_) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
    };
    ClientError::Refused { status: status.as_u16(), message }
}

/// The older of two `major.minor` versions; one that cannot be read counts as ours.
fn older_of<'a>(ours: &'a str, theirs: &'a str) -> &'a str {
    let parse = |version: &str| {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    match (parse(ours), parse(theirs)) {
        (Some(our), Some(their)) if their < our => theirs,
        _ => ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(older_of("1.51", "1.9"), "1.9");
        assert_eq!(older_of("1.51", "1.100"), "1.51");
        assert_eq!(older_of("1.51", "1.51"), "1.51");
        assert_eq!(older_of("1.51", "1.4/../x"), "1.51");
    }
}
