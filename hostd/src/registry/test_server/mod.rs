//! A registry on loopback for tests: honest by default, hostile where a test says so. Serves HTTP/1.1 with or without
//! TLS, remembers what it was asked, and keeps everything in memory.

mod access;
mod content;
mod tls;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::access::{Access, IDENTITY, PASSWORD, Tokens, USERNAME};
use self::content::Content;
pub(crate) use self::tls::{Authority, Clients};
pub(crate) use self::wire::{BreakingLine, Proxy};
use super::{Patience, RegistrySettings};
use crate::image::{Digest, Repository};

/// A running registry; ends when it is dropped.
pub(crate) struct TestRegistry {
    host: String,
    state: Arc<State>,
    _server: AbortOnDropHandle<()>,
}

/// What a registry is started with.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) access: Access,
}

/// One request, as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// Of forms; everything else is content and kept as such.
    pub(crate) body: Bytes,
}

/// What a test has the registry do once, instead of being honest.
pub(crate) enum Reply {
    /// Anything that can be said in a whole answer.
    Answer(StatusCode, Vec<(&'static str, String)>, Bytes),
    /// An answer whose body arrives in pieces.
    Pieces(StatusCode, Vec<(&'static str, String)>, Vec<Piece>),
    /// The connection ends without an answer.
    Reset,
    /// The connection stays open without an answer.
    Silence,
    /// This much of the request's body is kept as honestly as ever, then the connection ends.
    TakeAndReset(usize),
}

/// A part of a body.
#[derive(Clone)]
pub(crate) enum Piece {
    Bytes(Bytes),
    Stall,
    Break,
}

struct State {
    content: Mutex<Content>,
    access: Access,
    /// Scheme and host.
    base: String,
    seen: Mutex<Vec<Seen>>,
    script: Mutex<VecDeque<(Method, String, Reply)>>,
}

impl TestRegistry {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let scheme = if setup.tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{host}");
        let state = Arc::new(State {
            content: Mutex::new(Content::at(&base)),
            access: setup.access,
            base,
            seen: Mutex::default(),
            script: Mutex::default(),
        });
        let acceptor = setup.tls.map(TlsAcceptor::from);
        let server = tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self { host, state, _server: AbortOnDropHandle::new(server) }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.state.base)
    }

    /// A repository of this registry.
    pub(crate) fn repository(&self, path: &str) -> Repository {
        Repository::parse(&format!("{}/{path}", self.host)).unwrap()
    }

    pub(crate) fn add_blob(&self, path: &str, content: impl Into<Bytes>) -> Digest {
        self.state.content.lock().unwrap().add_blob(path, content.into())
    }

    pub(crate) fn add_manifest(
        &self,
        path: &str,
        tag: &str,
        media_type: &str,
        content: impl Into<Bytes>,
    ) -> Digest {
        self.state.content.lock().unwrap().add_manifest(path, tag, media_type, content.into())
    }

    pub(crate) fn blob(&self, path: &str, digest: &Digest) -> Option<Bytes> {
        self.state.content.lock().unwrap().blob(path, digest)
    }

    /// Media type and content, by tag or digest.
    pub(crate) fn manifest(&self, path: &str, reference: &str) -> Option<(String, Bytes)> {
        self.state.content.lock().unwrap().manifest(path, reference)
    }

    /// Takes one piece of an upload only, as some registries do.
    pub(crate) fn refuse_second_pieces(&self) {
        self.state.content.lock().unwrap().one_piece_only = true;
    }

    /// The next request of this method whose path contains this gets that. Told several times, it does so several times.
    pub(crate) fn once(&self, method: Method, path: &str, reply: Reply) {
        self.state.script.lock().unwrap().push_back((method, path.to_owned(), reply));
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How often something was asked whose path contains this.
    pub(crate) fn count(&self, method: &Method, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == *method && seen.path.contains(path)).count()
    }

    /// Settings for it: patience is short, and it may play the default registry.
    pub(crate) fn settings(&self) -> RegistrySettings {
        let mut settings = quick_settings();
        settings.default_registry.host = self.host.clone();
        settings.default_registry.index_host = self.host.clone();
        settings
    }
}

/// Settings under which tests of broken registries end soon.
pub(crate) fn quick_settings() -> RegistrySettings {
    let patience = Patience {
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(1500),
        no_progress: Duration::from_millis(300),
        commit: Duration::from_millis(1500),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_secs(2),
    };
    let certs_directory = "/nonexistent".into();
    RegistrySettings { patience, certs_directory, ..RegistrySettings::default() }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move { connection(stream, acceptor, state).await });
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, state: Arc<State>) {
    match acceptor {
        None => serve(stream, state).await,
        // Whoever does not like our certificate, or speaks no TLS, is gone.
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, state).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request| answer(Arc::clone(&state), request));
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Broken connections are what tests ask for.
    served.await.ok();
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut body = Body::new(body);
    let mut form = Bytes::new();
    if head.headers.get("content-type").is_some_and(|kind| kind == "application/x-www-form-urlencoded") {
        form = std::mem::take(&mut body).collect().await.map_err(io::Error::other)?.to_bytes();
    }
    let seen = Seen { method: head.method, path, headers: head.headers, body: form };
    state.seen.lock().unwrap().push(seen.clone());
    match state.scripted(&seen) {
        Some(Reply::Answer(status, headers, body)) => Ok(response(status, &headers, body)),
        Some(Reply::Pieces(status, headers, pieces)) => Ok(response(status, &headers, body_of(pieces))),
        Some(Reply::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Reply::Silence) => std::future::pending().await,
        Some(Reply::TakeAndReset(bytes)) => {
            state.honest(&seen, body, Some(bytes)).await;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        None => Ok(state.honest(&seen, body, None).await),
    }
}

impl State {
    fn scripted(&self, seen: &Seen) -> Option<Reply> {
        let mut script = self.script.lock().unwrap();
        let fits =
            |(method, path, _): &(Method, String, Reply)| *method == seen.method && seen.path.contains(path);
        let position = script.iter().position(fits)?;
        script.remove(position).map(|(_, _, reply)| reply)
    }

    /// With `cut`, takes only so much of the body and answers nothing of interest.
    async fn honest(&self, seen: &Seen, body: Body, cut: Option<usize>) -> Response<Body> {
        if let Some(answer) = self.access.answer(seen, &self.base) {
            drain(body).await;
            return answer;
        }
        let upload = self.content.lock().unwrap().upload_of(seen);
        let mut taken = Vec::new();
        let mut frames = body.into_data_stream();
        while let Some(Ok(chunk)) = frames.next().await {
            taken.extend_from_slice(&chunk);
            if cut.is_some_and(|cut| taken.len() >= cut) {
                taken.truncate(cut.unwrap());
                break;
            }
        }
        let mut content = self.content.lock().unwrap();
        match (cut, upload) {
            (Some(_), Some(upload)) => {
                content.append(&upload, &taken);
                response(StatusCode::OK, &[] as &[(_, &str)], "")
            }
            _ => content.answer(seen, &taken),
        }
    }
}

async fn drain(body: Body) {
    body.collect().await.ok();
}

fn body_of(pieces: Vec<Piece>) -> Body {
    let stream = futures_util::stream::iter(pieces).then(|piece| async move {
        match piece {
            Piece::Bytes(bytes) => Ok(bytes),
            Piece::Stall => std::future::pending().await,
            Piece::Break => {
                // What was said before the break should arrive.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            }
        }
    });
    Body::from_stream(stream)
}

fn response<H: AsRef<str>>(
    status: StatusCode,
    headers: &[(&'static str, H)],
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value.as_ref());
    }
    response.body(body.into()).unwrap()
}

/// `{"errors": […]}`, as registries say what is wrong.
pub(crate) fn error_body(code: &str, message: &str) -> Bytes {
    serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string().into()
}
