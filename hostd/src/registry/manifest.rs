//! Manifests and indexes, in and out: bytes and their digest. What is in them is not looked at.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::endpoint::{Answer, Call, Endpoint};
use super::error::{RegistryError, RegistryErrorKind};
use super::failure::{Failure, shown, text};
use super::repository::{Inner, RemoteRepository};
use super::subject::Object;
use crate::image::{Digest, Selector};

/// The bound that the distribution specification recommends to registries.
const MAX_MANIFEST_BYTES: usize = 4 << 20;
const MAX_MEDIA_TYPE_BYTES: usize = 255;
/// Answers to what we store are a line.
const MAX_ANSWER_BYTES: usize = 1 << 20;
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A manifest as the registry has it; its digest is verified, its content is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedManifest {
    pub digest: Digest,
    pub media_type: String,
    pub content: Bytes,
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "mediaType")]
    media_type: String,
}

impl RemoteRepository {
    /// The manifest or index; at most 4 MiB.
    ///
    /// # Errors
    /// [`RegistryErrorKind::NotFound`] if there is none, [`RegistryErrorKind::Denied`] if that is not for us to know.
    pub async fn manifest(&self, selector: &Selector) -> Result<FetchedManifest, RegistryError> {
        let inner = &*self.inner;
        inner.read(Object::Manifest(selector.clone()), |endpoint| fetch(inner, endpoint, selector)).await
    }

    /// Digest, media type and size in bytes of a manifest, without its content.
    ///
    /// # Errors
    /// Anything but that there is none.
    pub async fn head_manifest(
        &self,
        selector: &Selector,
    ) -> Result<Option<(Digest, String, u64)>, RegistryError> {
        let inner = &*self.inner;
        let asked =
            inner.read(Object::Manifest(selector.clone()), |endpoint| head(inner, endpoint, selector));
        match asked.await {
            Err(error) if error.kind == RegistryErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Stores a manifest under a tag or its digest; what it refers to must be there.
    ///
    /// # Errors
    /// The registry's refusal.
    pub async fn put_manifest(
        &self,
        selector: &Selector,
        media_type: &str,
        content: Bytes,
    ) -> Result<Digest, RegistryError> {
        let inner = &*self.inner;
        let object = || Object::NewManifest(selector.clone());
        let digest = Digest::of(&content);
        if matches!(selector, Selector::Manifest(named) if *named != digest) {
            let reason = format!("its digest is {digest}");
            return Err(inner.subject(object()).plain(RegistryErrorKind::Source, reason));
        }
        let Ok(media_type) = HeaderValue::from_str(media_type) else {
            let reason = format!("{media_type:?} is no media type");
            return Err(inner.subject(object()).plain(RegistryErrorKind::Source, reason));
        };
        let call = || {
            let mut call = Call::new(Method::PUT, path(inner, selector), &inner.push)
                .header(CONTENT_TYPE, media_type.clone());
            call.payload = super::client::Payload::Bytes(content.clone());
            call.deadline = Some(inner.shared.clients.patience.commit);
            call
        };
        let stored = inner.origin.ask(MAX_ANSWER_BYTES, call).await;
        let stored = stored.and_then(|answer| check_stated(&answer.headers, digest));
        stored.map_err(|failure| inner.error(object(), failure))?;
        Ok(digest)
    }
}

async fn fetch(inner: &Inner, endpoint: &Endpoint, selector: &Selector) -> Result<FetchedManifest, Failure> {
    let answer = endpoint.ask(MAX_MANIFEST_BYTES, || call(inner, Method::GET, selector)).await?;
    let digest = Digest::of(&answer.body);
    match selector {
        Selector::Manifest(wanted) if *wanted != digest => {
            return Err(Failure::invalid(format!("the content has the digest {digest}")));
        }
        _ => check_stated(&answer.headers, digest)?,
    }
    let media_type = media_type(&answer)?;
    Ok(FetchedManifest { digest, media_type, content: answer.body })
}

/// By `HEAD`, and by `GET` where that does not say enough.
async fn head(
    inner: &Inner,
    endpoint: &Endpoint,
    selector: &Selector,
) -> Result<(Digest, String, u64), Failure> {
    let asked = endpoint.ask(0, || call(inner, Method::HEAD, selector)).await;
    let stated = match asked {
        Ok(answer) => stated(&answer, selector),
        // An error's code is in its body, which this answer cannot have; and some do not know the method.
        Err(failure) if failure.status().is_some_and(|status| status.is_client_error()) => None,
        Err(failure) => return Err(failure),
    };
    if let Some(stated) = stated {
        return Ok(stated);
    }
    let whole = fetch(inner, endpoint, selector).await?;
    Ok((whole.digest, whole.media_type, whole.content.len() as u64))
}

/// What the headers alone say, if that is all there is to know.
fn stated(answer: &Answer, selector: &Selector) -> Option<(Digest, String, u64)> {
    let digest: Digest = text(&answer.headers, CONTENT_DIGEST)?.parse().ok()?;
    let size = text(&answer.headers, CONTENT_LENGTH.as_str())?.parse().ok()?;
    let media_type = text(&answer.headers, CONTENT_TYPE.as_str()).and_then(known_type)?;
    let contradicts = matches!(selector, Selector::Manifest(wanted) if *wanted != digest);
    (!contradicts).then_some((digest, media_type, size))
}

fn call<'a>(inner: &'a Inner, method: Method, selector: &Selector) -> Call<'a> {
    let call = Call::new(method, path(inner, selector), &inner.pull);
    MEDIA_TYPES.iter().fold(call, |call, kind| call.header(ACCEPT, HeaderValue::from_static(kind)))
}

fn path(inner: &Inner, selector: &Selector) -> String {
    match selector {
        Selector::Tag(tag) => inner.path(&format!("manifests/{tag}")),
        Selector::Manifest(digest) => inner.path(&format!("manifests/{digest}")),
    }
}

/// A registry that states another digest than the content's is broken, or something between us is. Digests of other
/// algorithms are not compared.
pub(super) fn check_stated(headers: &HeaderMap, digest: Digest) -> Result<(), Failure> {
    match text(headers, CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok()) {
        Some(stated) if stated != digest => Err(Failure::invalid(format!(
            "the content has the digest {digest}, and the registry says {stated}"
        ))),
        _ => Ok(()),
    }
}

/// The header's media type, or the content's own where storage knows only that it is JSON or bytes.
fn media_type(answer: &Answer) -> Result<String, Failure> {
    let header = text(&answer.headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    if let Some(known) = known_type(header) {
        return Ok(known);
    }
    if header.starts_with("text/html") {
        return Err(Failure::invalid(format!(
            "{} answers with a web page: is it a registry?",
            answer.url.authority()
        )));
    }
    match serde_json::from_slice::<Typed>(&answer.body) {
        Ok(typed) if typed.media_type.len() <= MAX_MEDIA_TYPE_BYTES => Ok(typed.media_type),
        _ => Err(Failure::invalid(format!("a manifest of the unknown type {:?}", shown(header)))),
    }
}

/// A type that says more than that something is text, without its parameters.
fn known_type(header: &str) -> Option<String> {
    let media_type = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_something = media_type.starts_with("application/vnd.");
    (says_something && media_type.len() <= MAX_MEDIA_TYPE_BYTES).then_some(media_type)
}
