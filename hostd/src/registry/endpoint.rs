//! One place that answers for a repository: the registry itself or a mirror. Finds out how it is spoken to, proves who we
//! are, and makes one exchange out of as many requests as that takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use super::authorizer::{Authorizer, Place, Proof};
use super::client::{Clients, Outgoing, Payload, place, read_body, refusal};
use super::failure::{Cause, Failure};
use super::host::HostPort;
use super::policy::Policy;
use super::retry::Retries;
use super::token::Scope;

/// Somebody waits for the first answer of a registry that is perhaps not there.
const PING_ATTEMPTS: u32 = 3;

/// An endpoint, and what was found out about it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) registry: HostPort,
    /// `https` or `http` where settings say so (mirrors); found out otherwise.
    given: Option<Url>,
    base: OnceCell<Url>,
    pub(super) authorizer: Authorizer,
    pub(super) clients: Arc<Clients>,
    policy: Arc<Policy>,
    pub(super) attempts: u32,
}

/// A question to a registry.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    pub(super) scope: &'a Scope,
    pub(super) deadline: Option<Duration>,
}

/// Which URL is meant.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A path below the endpoint's base, such as `v2/library/busybox/tags/list`, and a query.
    Path(String, Option<String>),
    /// One that the registry gave.
    Url(Url),
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where it came from in the end.
    pub(super) url: Url,
    pub(super) body: Bytes,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, path: impl Into<String>, scope: &'a Scope) -> Self {
        Self::to(method, Target::Path(path.into(), None), scope)
    }

    pub(super) fn to(method: Method, target: Target, scope: &'a Scope) -> Self {
        let (headers, payload) = (HeaderMap::new(), Payload::Nothing);
        Self { method, target, headers, payload, scope, deadline: None }
    }

    pub(super) fn header(mut self, name: reqwest::header::HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}

impl Endpoint {
    /// A registry by its host, or a mirror by its URL.
    pub(super) fn new(
        registry: HostPort,
        given: Option<Url>,
        authorizer: Authorizer,
        clients: &Arc<Clients>,
        policy: &Arc<Policy>,
    ) -> Self {
        let (clients, policy) = (Arc::clone(clients), Arc::clone(policy));
        Self { registry, given, base: OnceCell::new(), authorizer, clients, policy, attempts: PING_ATTEMPTS }
    }

    /// At most so many attempts at each thing.
    pub(super) fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Asks and reads the whole answer, as often as it takes.
    pub(super) async fn ask<'a>(
        &self,
        max_bytes: usize,
        call: impl Fn() -> Call<'a> + Send,
    ) -> Result<Answer, Failure> {
        let patience = &self.clients.patience;
        let mut retries = Retries::new(patience, self.attempts);
        loop {
            match self.ask_once(max_bytes, call()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => retries.pause_after(failure).await?,
            }
        }
    }

    async fn ask_once(&self, max_bytes: usize, call: Call<'_>) -> Result<Answer, Failure> {
        let is_head = call.method == Method::HEAD;
        let response = self.exchange(call).await?;
        let status = response.status();
        let (headers, url) = (response.headers().clone(), response.url().clone());
        let body = match is_head {
            true => Bytes::new(),
            false => read_body(response, max_bytes, &self.clients.patience).await?,
        };
        Ok(Answer { status, headers, url, body })
    }

    /// One exchange: authorized, with redirects followed; the answer's status is a success.
    pub(super) async fn exchange(&self, mut call: Call<'_>) -> Result<Response, Failure> {
        let base = self.base().await?;
        let url = call.target.url(base);
        let place = Place { clients: &self.clients, registry: &self.registry, base };
        // Who named another host gets our question there, but not our credentials.
        let is_ours = url.origin() == base.origin();
        let proof = if is_ours { self.authorizer.proof(place, call.scope).await? } else { None };
        let response = self.send(&mut call, &url, proof.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED
            || !is_ours
            || response.url().origin() != url.origin()
        {
            return self.accepted(response).await;
        }
        self.authorizer.learn(response.headers());
        match self.authorizer.renewed(place, call.scope, proof).await? {
            Some(_) if matches!(call.payload, Payload::Stream(_)) => {
                let reason = refusal(response, &self.clients.patience).await.to_string();
                Err(Failure::Broken { reason, cause: Cause::Token })
            }
            Some(proof) => {
                let response = self.send(&mut call, &url, Some(&proof)).await?;
                self.accepted(response).await
            }
            None => self.accepted(response).await,
        }
    }

    async fn send(&self, call: &mut Call<'_>, url: &Url, proof: Option<&Proof>) -> Result<Response, Failure> {
        let is_stream = matches!(call.payload, Payload::Stream(_));
        let payload = match &mut call.payload {
            Payload::Nothing => Payload::Nothing,
            Payload::Bytes(bytes) => Payload::Bytes(bytes.clone()),
            Payload::Stream(stream) => Payload::Stream(std::mem::take(stream)),
        };
        let deadline = call.deadline.or((!is_stream).then_some(self.clients.patience.answer));
        let outgoing = Outgoing {
            registry: &self.registry,
            method: call.method.clone(),
            url: url.clone(),
            headers: call.headers.clone(),
            payload,
            authorization: proof.map(|proof| proof.header.clone()),
            deadline,
        };
        self.clients.send(outgoing).await
    }

    async fn accepted(&self, response: Response) -> Result<Response, Failure> {
        match response.status().is_success() {
            true => Ok(response),
            false => Err(refusal(response, &self.clients.patience).await),
        }
    }

    /// The URL below which everything is; found out once.
    pub(super) async fn base(&self) -> Result<&Url, Failure> {
        self.base.get_or_try_init(|| self.find_base_patiently()).await
    }

    async fn find_base_patiently(&self) -> Result<Url, Failure> {
        self.clients.notice_changes(&self.registry).await;
        let mut retries = Retries::new(&self.clients.patience, PING_ATTEMPTS.min(self.attempts));
        loop {
            match self.find_base().await {
                Err(failure @ Failure::Broken { cause: Cause::Connection, .. }) => {
                    // Who asks tries again what is worth it; this was tried.
                    retries.pause_after(failure).await.map_err(Failure::finally)?;
                }
                found => return found,
            }
        }
    }

    async fn find_base(&self) -> Result<Url, Failure> {
        let mut failures: Vec<Failure> = Vec::new();
        for candidate in self.candidates().await? {
            match self.ping(&candidate).await {
                Ok(()) => return Ok(candidate),
                // Silence at one scheme is a reason to try the next; an answer is none.
                Err(failure @ Failure::Broken { cause: Cause::Connection, .. }) => failures.push(failure),
                Err(failure) => return Err(failure),
            }
        }
        let reasons: Vec<_> = failures.iter().map(ToString::to_string).collect();
        Err(match reasons.as_slice() {
            [secure, plain] if secure != plain => {
                Failure::broken(format!("by https: {secure}; by http: {plain}"))
            }
            _ => failures.pop().expect("there is at least one candidate"),
        })
    }

    async fn candidates(&self) -> Result<Vec<Url>, Failure> {
        if let Some(given) = &self.given {
            return Ok(vec![given.clone()]);
        }
        let plain_too = self.registry.is_loopback() || self.policy.is_insecure(&self.registry).await;
        let schemes = if plain_too { &["https", "http"][..] } else { &["https"] };
        let url = |scheme: &&str| format!("{scheme}://{}/", self.registry).parse();
        let urls: Result<_, _> = schemes.iter().map(url).collect();
        urls.map_err(|_| Failure::invalid(format!("{} is no host", self.registry)))
    }

    /// The specification's question whether this is a registry at all. Whatever is answered, HTTP is spoken; only how one
    /// authenticates is learned from it.
    async fn ping(&self, base: &Url) -> Result<(), Failure> {
        let url = Target::Path("v2/".to_owned(), None).url(base);
        let scope = Scope::default();
        let mut call = Call::new(Method::GET, "v2/", &scope);
        let response = self.send(&mut call, &url, None).await?;
        self.authorizer.learn_from_ping(response.headers());
        tracing::debug!(base = %place(base), status = %response.status(), "registry: found");
        match response.status() {
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(refusal(response, &self.clients.patience).await)
            }
            _ => Ok(()),
        }
    }
}

impl Target {
    fn url(&self, base: &Url) -> Url {
        match self {
            Self::Url(url) => url.clone(),
            Self::Path(path, query) => {
                let mut url = base.clone();
                // Escapes what a tag that nobody checked might contain.
                url.path_segments_mut().expect("HTTP URLs have paths").pop_if_empty().extend(path.split('/'));
                url.set_query(query.as_deref());
                url
            }
        }
    }
}
