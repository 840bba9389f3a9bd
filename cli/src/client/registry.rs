//! What the daemon does at registries for us: pull, push, search, look at a manifest, check a login.

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;

use super::json_lines::JsonLines;
use super::request::Request;
use super::{Client, ClientError, collect};
use crate::credentials::Credentials;

/// What to pull, and as whom.
pub(crate) struct PullRequest<'a> {
    pub(crate) name: &'a str,
    /// A tag or a digest; without one, every tag there is.
    pub(crate) tag: Option<&'a str>,
    pub(crate) platform: Option<&'a str>,
    pub(crate) credentials: &'a Credentials,
}

/// What `POST /auth` answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Login {
    pub(crate) status: String,
    pub(crate) identity_token: String,
}

/// One repository that a search found.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SearchResult {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) star_count: u64,
    pub(crate) is_official: bool,
    pub(crate) is_automated: bool,
}

/// A manifest as its registry has it.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) content: Bytes,
}

impl Client {
    /// Asks the daemon to pull; the answer is a stream of progress.
    pub(crate) async fn pull(&self, pull: &PullRequest<'_>) -> Result<JsonLines, ClientError> {
        let request = Request::post(&["images", "create"])
            .with("fromImage", pull.name)
            .with_if_some("tag", pull.tag)
            .with_if_some("platform", pull.platform);
        let request = as_user(request, pull.credentials);
        Ok(JsonLines::new("pull", self.send(request).await?))
    }

    /// Asks the daemon to push one tag, or all it has; the answer is a stream of progress.
    pub(crate) async fn push(
        &self,
        name: &str,
        tag: Option<&str>,
        platform: Option<&str>,
        credentials: &Credentials,
    ) -> Result<JsonLines, ClientError> {
        let request = Request::post(&["images", name, "push"])
            .with_if_some("tag", tag)
            .with_if_some("platform", platform)
            // Docker's daemon wants the header even of nobody.
            .with_credentials(credentials);
        Ok(JsonLines::new("push", self.send(request).await?))
    }

    /// Has the daemon try the credentials at their registry.
    pub(crate) async fn check_login(&self, credentials: &Credentials) -> Result<Login, ClientError> {
        let bytes = self.send_for_bytes(Request::post(&["auth"]).with_json(credentials)).await?;
        // 204: the login is good, and there is nothing more to say.
        if bytes.is_empty() {
            return Ok(Login { status: "Login Succeeded".to_owned(), ..Login::default() });
        }
        serde_json::from_slice(&bytes).map_err(|reason| ClientError::Nonsense {
            request: "auth".to_owned(),
            reason: reason.to_string(),
        })
    }

    pub(crate) async fn search(
        &self,
        term: &str,
        limit: Option<u32>,
        filters: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Vec<SearchResult>, ClientError> {
        let limit = limit.map(|limit| limit.to_string());
        let request = Request::get(&["images", "search"])
            .with("term", term)
            .with_if_some("limit", limit.as_deref())
            .with_if_some("filters", filters);
        self.send_for_json(as_user(request, credentials)).await
    }

    /// The bytes of a manifest at its registry: an endpoint of Berth's own, since Docker's tells only the digest.
    pub(crate) async fn registry_manifest(
        &self,
        name: &str,
        credentials: &Credentials,
    ) -> Result<Manifest, ClientError> {
        let request = as_user(Request::get(&["distribution", name, "manifest"]), credentials);
        let response = self.send(request).await?;
        let header = |name| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let media_type = header(CONTENT_TYPE.as_str());
        let digest = header("docker-content-digest");
        let content = collect("manifest", response).await?;
        Ok(Manifest { media_type, digest, content })
    }
}

fn as_user(request: Request, credentials: &Credentials) -> Request {
    if credentials.is_anonymous() { request } else { request.with_credentials(credentials) }
}
