//! One request on the wire: the HTTP client for its target, the deadline for the answer's first byte, and redirects,
//! which never take credentials or contents to another origin. Knows no challenges and tries nothing twice.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Body, Client, Method, Response, StatusCode, Url, redirect};

use super::failure::{Cause, Failure, Refusal, text};
use super::host::HostPort;
use super::policy::Policy;
use super::settings::{Patience, RegistrySettings};
use super::trust::{Fingerprint, HostCertificates};

/// Storage behind storage behind a registry; nobody needs more.
const MAX_REDIRECTS: usize = 10;
/// Redirects may name ever new hosts.
const MAX_CLIENTS: usize = 64;
/// Of an error's body, this much is read.
const MAX_ERROR_BYTES: usize = 64 << 10;
const MAX_RESPONSE_HEADERS: usize = 128;
const USER_AGENT: &str = concat!("berth/", env!("CARGO_PKG_VERSION"));

/// All HTTP clients, made when they are first needed, so that their connections are used again.
pub(super) struct Clients {
    policy: Arc<Policy>,
    certs_directory: PathBuf,
    pub(super) patience: Patience,
    made: Mutex<HashMap<Purpose, Client>>,
    /// The registries' folders of certificates as the clients found them.
    folders: Mutex<HashMap<HostPort, Fingerprint>>,
}

/// What a client is for: its certificates and its proxy follow from that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Purpose {
    scheme: String,
    target: HostPort,
    /// The registry that led there; its authorities are trusted too, since its storage is often signed by the same.
    registry: HostPort,
}

/// A request, before redirects.
pub(super) struct Outgoing<'a> {
    pub(super) registry: &'a HostPort,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
    /// Sent to the URL's origin only.
    pub(super) authorization: Option<HeaderValue>,
    /// For the answer's first byte. Not used while a stream is sent: who sends it sees its progress.
    pub(super) deadline: Option<Duration>,
}

/// What a request carries.
#[derive(Default)]
pub(super) enum Payload {
    #[default]
    Nothing,
    Bytes(Bytes),
    /// Can be sent once.
    Stream(Body),
}

impl Clients {
    pub(super) fn new(settings: &RegistrySettings, policy: Arc<Policy>) -> Self {
        // Which cryptography TLS uses is the process's choice; the first choice stays.
        rustls::crypto::ring::default_provider().install_default().ok();
        Self {
            policy,
            certs_directory: settings.certs_directory.clone(),
            patience: settings.patience.clone(),
            made: Mutex::default(),
            folders: Mutex::default(),
        }
    }

    /// Forgets all clients if the registry's folder of certificates is not as it was: an authority that somebody took
    /// out of it is not trusted from the next pull on.
    pub(super) async fn notice_changes(&self, registry: &HostPort) {
        let (certs_directory, host) = (self.certs_directory.clone(), registry.clone());
        let looked = tokio::task::spawn_blocking(move || Fingerprint::of(&certs_directory, &host));
        let Ok(now) = looked.await else { return };
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if folders.len() >= MAX_CLIENTS {
            folders.clear();
            self.forget();
        }
        if folders.insert(registry.clone(), now.clone()).is_some_and(|before| before != now) {
            self.forget();
        }
    }

    fn forget(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Sends a request and follows where it leads. Any status that is no redirect is an answer.
    pub(super) async fn send(&self, mut request: Outgoing<'_>) -> Result<Response, Failure> {
        let origin = request.url.origin();
        let mut visited = vec![request.url.clone()];
        loop {
            let url = visited.last().expect("the first URL is in it").clone();
            let trusted = url.origin() == origin;
            let response = self.hop(&mut request, url.clone(), trusted).await?;
            let Some(next) = redirect_of(&response, &url)? else { return Ok(response) };
            self.check_redirect(&request, &visited, &next).await?;
            if response.status() == StatusCode::SEE_OTHER && request.method != Method::HEAD {
                request.method = Method::GET;
                request.payload = Payload::Nothing;
            }
            tracing::debug!(from = %place(&url), to = %place(&next), "registry: redirected");
            visited.push(next);
        }
    }

    async fn hop(&self, request: &mut Outgoing<'_>, url: Url, trusted: bool) -> Result<Response, Failure> {
        let client = self.client(request.registry, &url).await?;
        tracing::debug!(method = %request.method, url = %place(&url), "registry: request");
        let mut builder = client.request(request.method.clone(), url).headers(request.headers.clone());
        builder = builder.header(ACCEPT_ENCODING, "identity");
        if let (true, Some(authorization)) = (trusted, &request.authorization) {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        match &mut request.payload {
            Payload::Nothing => {}
            Payload::Bytes(bytes) => builder = builder.body(bytes.clone()),
            Payload::Stream(stream) => builder = builder.body(std::mem::take(stream)),
        }
        let sent = builder.send();
        let answered = match request.deadline {
            Some(deadline) => tokio::time::timeout(deadline, sent)
                .await
                .map_err(|_| Failure::broken(format!("no answer within {deadline:?}")))?,
            None => sent.await,
        };
        answered.map_err(|error| {
            let failure = Failure::of(error, self.patience.connect);
            if matches!(failure, Failure::Broken { cause: Cause::Certificate, .. }) {
                // Whoever puts the right certificates into the folder now need not restart the daemon.
                self.forget();
            }
            failure
        })
    }

    async fn check_redirect(
        &self,
        request: &Outgoing<'_>,
        visited: &[Url],
        next: &Url,
    ) -> Result<(), Failure> {
        let path = || visited.iter().chain([next]).map(place).collect::<Vec<_>>().join(" → ");
        if visited.contains(next) {
            return Err(Failure::invalid(format!("a redirect loop: {}", path())));
        }
        if visited.len() > MAX_REDIRECTS {
            return Err(Failure::invalid(format!("more than {MAX_REDIRECTS} redirects: {}", path())));
        }
        if !matches!(request.payload, Payload::Nothing) && next.origin() != visited[0].origin() {
            return Err(Failure::invalid(format!(
                "a redirect of what is uploaded to another host: {}",
                path()
            )));
        }
        if matches!(request.payload, Payload::Stream(_)) {
            return Err(Failure::invalid(format!("a redirect of a stream: {}", path())));
        }
        self.check_downgrade(&visited[0], next).await
    }

    /// Whoever is reached by TLS does not lead to plain text, unless the settings say that it may be spoken there.
    pub(super) async fn check_downgrade(&self, from: &Url, to: &Url) -> Result<(), Failure> {
        let Some(target) = HostPort::of(to).filter(|_| matches!(to.scheme(), "http" | "https")) else {
            return Err(Failure::invalid(format!("it leads to {}, which is no HTTP URL", place(to))));
        };
        if to.scheme() == "http" && from.scheme() == "https" && !self.policy.is_insecure(&target).await {
            let reason = format!("it leads from https to plain http: {}", place(to));
            return Err(Failure::invalid(reason));
        }
        Ok(())
    }

    async fn client(&self, registry: &HostPort, url: &Url) -> Result<Client, Failure> {
        let target = HostPort::of(url).ok_or_else(|| Failure::invalid("a URL without a host"))?;
        let purpose = Purpose { scheme: url.scheme().to_owned(), target, registry: registry.clone() };
        let made = |purpose: &Purpose| {
            self.made.lock().unwrap_or_else(PoisonError::into_inner).get(purpose).cloned()
        };
        if let Some(client) = made(&purpose) {
            return Ok(client);
        }
        let client = self.make(&purpose, url).await?;
        let mut clients = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        // Two that made one at the same time go on with the same one.
        Ok(clients.entry(purpose).or_insert(client).clone())
    }

    async fn make(&self, purpose: &Purpose, url: &Url) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            // Layers come over a connection each: one of HTTP/2 would share one window among them.
            .http1_only()
            .http1_max_headers(MAX_RESPONSE_HEADERS)
            .connect_timeout(self.patience.connect);
        if let Some(proxy) = self.policy.proxy(url) {
            let proxy = reqwest::Proxy::all(proxy.clone());
            builder = builder.proxy(proxy.map_err(|error| Failure::of(error, self.patience.connect))?);
        }
        let careless = self.may_skip_verification(purpose).await;
        let (purpose, certs_directory) = (purpose.clone(), self.certs_directory.clone());
        let made = tokio::task::spawn_blocking(move || {
            if purpose.scheme == "http" {
                return builder.tls_certs_only([]).build().map_err(|error| error.to_string());
            }
            let own = HostCertificates::read(&certs_directory, &purpose.target).map_err(|e| e.to_string())?;
            let mut authorities = own.authorities;
            if purpose.registry != purpose.target {
                let registrys = HostCertificates::read(&certs_directory, &purpose.registry);
                authorities.extend(registrys.map_err(|error| error.to_string())?.authorities);
            }
            let mut builder = builder.tls_certs_merge(authorities).tls_danger_accept_invalid_certs(careless);
            if let Some(identity) = own.identity {
                builder = builder.identity(identity);
            }
            builder.build().map_err(|error| error.to_string())
        });
        made.await
            .unwrap_or_else(|error| Err(error.to_string()))
            .map_err(|reason| Failure::Broken { reason, cause: Cause::Settings })
    }

    /// Of an insecure registry, its other ports are as insecure: token servers live there.
    async fn may_skip_verification(&self, purpose: &Purpose) -> bool {
        let same_host = purpose.registry.host == purpose.target.host;
        self.policy.is_insecure(&purpose.target).await
            || (same_host && self.policy.is_insecure(&purpose.registry).await)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Where a redirect leads; none if the answer is none.
fn redirect_of(response: &Response, from: &Url) -> Result<Option<Url>, Failure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = text(response.headers(), LOCATION.as_str()) else {
        return Err(Failure::invalid(format!("answered {} without saying where to", response.status())));
    };
    join(from, location).map(Some)
}

/// A location that an answer names, absolute or relative to the request. A user and password in it are not ours.
pub(super) fn join(from: &Url, location: &str) -> Result<Url, Failure> {
    let unusable =
        || Failure::invalid(format!("a location that is no URL: {:?}", super::failure::shown(location)));
    let mut url = from.join(location).map_err(|_| unusable())?;
    if url.host_str().is_none() {
        return Err(unusable());
    }
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| unusable())?;
    url.set_fragment(None);
    Ok(url)
}

/// A URL as it may be logged: queries carry signatures.
pub(super) fn place(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), super::failure::shown(url.path()))
}

/// A whole body within bounds.
pub(super) async fn read_body(
    mut response: Response,
    max_bytes: usize,
    patience: &Patience,
) -> Result<Bytes, Failure> {
    let too_large = || Failure::invalid(format!("an answer of more than {max_bytes} bytes"));
    if response.content_length().is_some_and(|length| length > max_bytes as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut response, patience).await? {
        if body.len() + chunk.len() > max_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The next piece of a body, within the deadline for progress.
pub(super) async fn next_chunk(
    response: &mut Response,
    patience: &Patience,
) -> Result<Option<Bytes>, Failure> {
    let stalled = || Failure::broken(format!("nothing arrived for {:?}", patience.no_progress));
    tokio::time::timeout(patience.no_progress, response.chunk())
        .await
        .map_err(|_| stalled())?
        .map_err(|error| Failure::of(error, patience.connect))
}

/// What an answer that says no says. Its body helps, but is not waited for without end, and may be missing.
pub(super) async fn refusal(mut response: Response, patience: &Patience) -> Failure {
    let mut body = Vec::new();
    let collected = async {
        while body.len() < MAX_ERROR_BYTES {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
    };
    tokio::time::timeout(patience.no_progress, collected).await.ok();
    body.truncate(MAX_ERROR_BYTES);
    Failure::Refused(Box::new(Refusal::new(response.status(), response.headers(), &body)))
}
