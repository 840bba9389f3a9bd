//! Blobs on their way out: an upload session, its pieces, and how it goes on after a break.
//!
//! ```text
//! POST ──▶ session ──▶ PUT with everything                       up to one piece
//!             │
//!             └──────▶ PATCH, PATCH, … ──▶ PUT                   more; after a break: GET says how far it came
//! ```

mod source;

use std::io;
use std::sync::PoisonError;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::io::AsyncRead;

use self::source::{Sending, Source};
use super::client::{Payload, join, read_body};
use super::endpoint::{Call, Endpoint, Target};
use super::error::{RegistryError, RegistryErrorKind};
use super::failure::{Cause, Failure, shown, text};
use super::manifest::check_stated;
use super::repository::{Inner, RemoteRepository};
use super::retry::Retries;
use super::subject::Object;
use super::token::Access;
use crate::image::{Digest, Repository};

const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Registries with larger least pieces get the blob in one.
const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";

/// A session that a registry opened.
struct Session {
    url: Url,
    /// What the registry has.
    offset_bytes: u64,
    chunk_bytes: u64,
    /// A request of it broke. What arrived of that one may still be on its way to the registry's disk, and move the
    /// offset after the registry has said where it is.
    has_broken: bool,
}

/// One blob's upload, over as many sessions as it takes.
struct Upload<'a, S> {
    inner: &'a Inner,
    digest: Digest,
    size_bytes: u64,
    source: S,
    session: Option<Session>,
    /// The last request of the session broke: the registry has to say what it has.
    is_doubtful: bool,
    /// The registry takes no second piece.
    in_one_piece: bool,
}

/// Why one attempt ended.
enum Stopped {
    Failed(Failure),
    /// Nothing that the registry could help.
    Source(String),
}

impl RemoteRepository {
    /// Makes a blob of another repository of the same registry one of this repository; false if the registry wants it
    /// uploaded instead.
    ///
    /// # Errors
    /// Anything but that the registry does not mount.
    pub async fn mount_blob(&self, digest: &Digest, from: &Repository) -> Result<bool, RegistryError> {
        let inner = &*self.inner;
        if from.domain() != inner.repository.domain() || *from == inner.repository {
            return Ok(false);
        }
        let scope = inner.push.clone().and(from.path(), Access::Pull);
        let query = format!("mount={digest}&from={}", from.path());
        let target = Target::Path(inner.path("blobs/uploads/"), Some(query));
        let asked =
            inner.origin.ask(MAX_ANSWER_BYTES, || Call::to(Method::POST, target.clone(), &scope)).await;
        match asked {
            Ok(answer) if answer.status == StatusCode::CREATED => Ok(true),
            // It opened a session instead: the upload goes on there.
            Ok(answer) => {
                let location = location(inner, &answer.url, &answer.headers).await;
                if let Ok(Some(url)) = location {
                    inner.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest, url);
                }
                Ok(false)
            }
            // No right to the other repository, or no mounts at all: uploading says whether anything is wrong.
            Err(failure) if failure.status().is_some_and(|status| status.is_client_error()) => Ok(false),
            Err(failure) => Err(inner.error(Object::NewBlob(*digest), failure)),
        }
    }

    /// Uploads a blob, as soon as no more than the allowed number are under way. `open` gives its bytes from an offset
    /// on, and is called again for each piece and after a break; `progress` hears how many bytes have been sent, which
    /// can go back after a break.
    ///
    /// # Errors
    /// The registry's refusal, or [`RegistryErrorKind::Source`].
    pub async fn upload_blob<R>(
        &self,
        digest: Digest,
        size_bytes: u64,
        open: impl Fn(u64) -> io::Result<R> + Send + Sync,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<(), RegistryError>
    where
        R: AsyncRead + Send + 'static,
    {
        let inner = &*self.inner;
        let _permit = inner.shared.uploads.acquire().await;
        let opened = inner.opened.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        let chunk_bytes = inner.shared.settings.upload_chunk_bytes.max(1);
        let session = opened.map(|url| Session { url, offset_bytes: 0, chunk_bytes, has_broken: false });
        let mut upload = Upload {
            inner,
            digest,
            size_bytes,
            source: Source { open, progress },
            session,
            is_doubtful: false,
            in_one_piece: false,
        };
        upload.run().await.map_err(|stopped| match stopped {
            Stopped::Failed(failure) => inner.error(Object::NewBlob(digest), failure),
            Stopped::Source(reason) => {
                inner.subject(Object::NewBlob(digest)).plain(RegistryErrorKind::Source, reason)
            }
        })
    }
}

impl<O, P, R> Upload<'_, Source<O, P>>
where
    O: Fn(u64) -> io::Result<R> + Send + Sync,
    P: Fn(u64) + Send + Sync,
    R: AsyncRead + Send + 'static,
{
    async fn run(&mut self) -> Result<(), Stopped> {
        let (patience, attempts) = (&self.inner.origin.clients.patience, self.inner.origin.attempts);
        let mut retries = Retries::new(patience, attempts);
        let mut furthest = 0;
        loop {
            let mut failure = match self.attempt().await {
                Ok(()) => return Ok(()),
                Err(Stopped::Failed(failure)) => failure,
                Err(source) => return Err(source),
            };
            if self.offset() > furthest {
                furthest = self.offset();
                retries = Retries::new(patience, attempts);
            }
            if is_request_refused(&failure) {
                if self.has_broken() {
                    self.session = None;
                    failure = Failure::broken(format!("does not go on after a break: {failure}"));
                } else if self.takes_one_piece_only() {
                    self.in_one_piece = true;
                    self.session = None;
                    continue;
                }
            }
            // A request without a good token was not looked at.
            self.is_doubtful = !matches!(failure, Failure::Broken { cause: Cause::Token, .. });
            retries.pause_after(failure).await.map_err(Stopped::Failed)?;
        }
    }

    fn offset(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.offset_bytes)
    }

    fn has_broken(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_broken)
    }

    /// The first piece was taken, and this one refused: such registries want all in one.
    fn takes_one_piece_only(&self) -> bool {
        !self.in_one_piece && self.offset() > 0 && self.offset() < self.size_bytes
    }

    async fn attempt(&mut self) -> Result<(), Stopped> {
        if std::mem::take(&mut self.is_doubtful) && self.session.is_some() {
            self.recover().await?;
            if self.session.is_none() && self.is_stored().await? {
                return Ok(());
            }
        }
        if self.session.is_none() {
            self.session = Some(self.begin().await?);
        }
        let session = self.session.as_ref().expect("it was just opened");
        let piece_bytes = if self.in_one_piece { self.size_bytes } else { session.chunk_bytes };
        if session.offset_bytes == 0 && self.size_bytes <= piece_bytes && !self.in_one_piece {
            return self.finish(0).await;
        }
        while self.offset() < self.size_bytes {
            self.send_piece(piece_bytes).await?;
        }
        self.finish(self.size_bytes).await
    }

    async fn begin(&self) -> Result<Session, Failure> {
        let path = self.inner.path("blobs/uploads/");
        let call = Call::new(Method::POST, path, &self.inner.push);
        let response = self.inner.origin.exchange(call).await?;
        let wished = text(response.headers(), CHUNK_MIN_LENGTH).and_then(|text| text.parse().ok());
        let url = location(self.inner, response.url(), response.headers()).await?;
        let url = url.ok_or_else(|| Failure::invalid("opened an upload without saying where"))?;
        drained(response, &self.inner.origin).await;
        let chunk_bytes = self.inner.shared.settings.upload_chunk_bytes.max(wished.unwrap_or(1)).max(1);
        Ok(Session { url, offset_bytes: 0, chunk_bytes, has_broken: false })
    }

    /// Asks how far the session came; there is none any more if the registry does not know it.
    async fn recover(&mut self) -> Result<(), Stopped> {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.has_broken = true;
        let target = Target::Url(session.url.clone());
        let call = Call::to(Method::GET, target, &self.inner.push);
        match self.inner.origin.exchange(call).await {
            Ok(response) => self.proceed(&response, None).await?,
            Err(failure) if failure.status().is_some_and(|status| status.is_client_error()) => {
                self.session = None;
            }
            Err(failure) => {
                self.is_doubtful = true;
                return Err(Stopped::Failed(failure));
            }
        }
        Ok(())
    }

    /// The session may be gone because the last request did finish it.
    async fn is_stored(&self) -> Result<bool, Failure> {
        Ok(self.inner.stored_size(&self.digest).await? == Some(self.size_bytes))
    }

    async fn send_piece(&mut self, piece_bytes: u64) -> Result<(), Stopped> {
        let begin = self.offset();
        let end = self.size_bytes.min(begin.saturating_add(piece_bytes));
        let mut headers = HeaderMap::new();
        if !self.in_one_piece {
            let range = format!("{begin}-{}", end - 1);
            headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits are a header's text"));
        }
        let url = self.session_url()?;
        let response = self.send(Method::PATCH, url, headers, begin..end).await?;
        self.proceed(&response, Some(end)).await?;
        drained(response, &self.inner.origin).await;
        if self.offset() <= begin {
            return Err(Stopped::Failed(Failure::broken(format!(
                "kept nothing of the piece from {begin} on"
            ))));
        }
        Ok(())
    }

    /// The last request: with the bytes from an offset on, if any are left, and the digest of all.
    async fn finish(&mut self, begin: u64) -> Result<(), Stopped> {
        let mut url = self.session_url()?;
        url.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        let response = self.send(Method::PUT, url, HeaderMap::new(), begin..self.size_bytes).await?;
        check_stated(response.headers(), self.digest)?;
        drained(response, &self.inner.origin).await;
        (self.source.progress)(self.size_bytes);
        Ok(())
    }

    fn session_url(&self) -> Result<Url, Failure> {
        let session = self.session.as_ref().ok_or_else(|| Failure::broken("the upload was given up"))?;
        Ok(session.url.clone())
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        range: std::ops::Range<u64>,
    ) -> Result<Response, Stopped> {
        let patience = &self.inner.origin.clients.patience;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        let answer = if method == Method::PUT { patience.commit } else { patience.answer };
        let mut call = Call::to(method, Target::Url(url), &self.inner.push);
        call.headers = headers;
        if range.is_empty() {
            call.deadline = Some(answer);
            return Ok(self.inner.origin.exchange(call).await?);
        }
        let sending = Sending::begin(&self.source, range).map_err(Stopped::Source)?;
        call.payload = Payload::Stream(sending.body);
        let exchange = self.inner.origin.exchange(call);
        sending.watch.wait(exchange, &self.source.progress, patience.no_progress, answer).await
    }

    /// Takes over where the session goes on: what the registry has, and the URL of the next request. `sent_up_to` is
    /// what it can have at most and, if it does not say, what it has.
    async fn proceed(&mut self, response: &Response, sent_up_to: Option<u64>) -> Result<(), Failure> {
        let next = location(self.inner, response.url(), response.headers()).await?;
        let Some(session) = &mut self.session else { return Ok(()) };
        let stated = text(response.headers(), RANGE.as_str()).map(acknowledged).transpose()?;
        let has = stated.or(sent_up_to).unwrap_or(0);
        if has > sent_up_to.unwrap_or(self.size_bytes) {
            return Err(Failure::invalid(format!(
                "says that it has {has} bytes, which is more than was sent"
            )));
        }
        session.offset_bytes = has;
        if let Some(next) = next {
            session.url = next;
        }
        Ok(())
    }
}

/// Refused for what the request says, not for who asks or when.
fn is_request_refused(failure: &Failure) -> bool {
    failure
        .status()
        .is_some_and(|status| status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 408 | 429))
}

/// Where an upload goes on. Another host gets no credentials; plain text is refused where TLS was spoken.
async fn location(inner: &Inner, from: &Url, headers: &HeaderMap) -> Result<Option<Url>, Failure> {
    let Some(location) = text(headers, LOCATION.as_str()) else { return Ok(None) };
    let url = join(from, location)?;
    inner.origin.clients.check_downgrade(from, &url).await?;
    Ok(Some(url))
}

/// `Range: 0-LAST`: how many bytes the registry has. Registries say `0-0` for none.
fn acknowledged(range: &str) -> Result<u64, Failure> {
    let bounds = range.trim_start_matches("bytes=").split_once('-');
    let last = bounds.and_then(|(first, last)| (first == "0").then_some(last)?.parse::<u64>().ok());
    match last {
        Some(0) => Ok(0),
        Some(last) => last.checked_add(1).ok_or_else(|| Failure::invalid("a range without end")),
        None => Err(Failure::invalid(format!("{:?} is no range of what it has", shown(range)))),
    }
}

/// Reads what little there is, so that the connection can be used again.
async fn drained(response: Response, endpoint: &Endpoint) {
    read_body(response, MAX_ANSWER_BYTES, &endpoint.clients.patience).await.ok();
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
