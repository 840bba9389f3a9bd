//! Redirects: followed to storage, without credentials, and not for ever.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::io::AsyncReadExt;

use super::super::test_server::{Access, PASSWORD, Reply, Setup, TestRegistry, USERNAME};
use super::super::{Credentials, RegistryErrorKind};
use super::{content, headers, open_repository, repository_with};
use crate::image::{Digest, Selector};

fn to(location: &str) -> Reply {
    Reply::Answer(StatusCode::TEMPORARY_REDIRECT, headers(&[("location", location)]), Bytes::new())
}

fn latest() -> Selector {
    Selector::Tag("latest".to_owned())
}

#[tokio::test]
async fn storage_gets_the_range_and_no_credentials() {
    let storage = TestRegistry::start().await;
    let digest = storage.add_blob("somewhere", content(1000));
    let setup = Setup { access: Access::Password, ..Setup::default() };
    let credentials = Credentials::Basic { username: USERNAME.into(), password: PASSWORD.into() };
    let (registry, repository) = repository_with(setup, "a/b", credentials).await;
    let place = storage.url(&format!("/v2/somewhere/blobs/{digest}"));
    let truncated = Reply::Pieces(
        StatusCode::OK,
        headers(&[("content-length", "1000")]),
        vec![
            super::super::test_server::Piece::Bytes(content(1000).slice(..400)),
            super::super::test_server::Piece::Break,
        ],
    );
    registry.once(Method::GET, "/blobs/", to(&place));
    registry.once(Method::GET, "/blobs/", to(&place));
    storage.once(Method::GET, "/blobs/", truncated);
    let mut bytes = Vec::new();
    repository.blob(digest, 1000).read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, content(1000));
    let seen = storage.seen();
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("authorization")));
    assert_eq!(seen[1].headers["range"], "bytes=400-");
    let asked = registry.seen().into_iter().filter(|seen| seen.path.contains("/blobs/"));
    assert!(asked.into_iter().all(|seen| seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_the_credentials() {
    let setup = Setup { access: Access::Password, ..Setup::default() };
    let credentials = Credentials::Basic { username: USERNAME.into(), password: PASSWORD.into() };
    let (registry, repository) = repository_with(setup, "a/b", credentials).await;
    let digest = registry.add_blob("other", content(10));
    registry.once(Method::GET, "/a/b/blobs/", to(&format!("/v2/other/blobs/{digest}")));
    let mut bytes = Vec::new();
    repository.blob(digest, 10).read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, content(10));
}

#[tokio::test]
async fn loops_are_named() {
    let (registry, repository) = open_repository().await;
    registry.once(Method::GET, "/manifests/latest", to("/elsewhere?signature=secret"));
    registry.once(Method::GET, "/elsewhere", to("/v2/a/b/manifests/latest"));
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::InvalidAnswer);
    let (start, end) = (registry.url("/v2/a/b/manifests/latest"), registry.url("/elsewhere"));
    assert!(error.message.ends_with(&format!("a redirect loop: {start} → {end} → {start}")), "{error}");
}

#[tokio::test]
async fn redirects_have_a_bound() {
    let (registry, repository) = open_repository().await;
    for i in 0..30 {
        registry.once(Method::GET, "/manifests/", to(&format!("/v2/a/b/manifests/{i}")));
    }
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(error.message.contains("more than 10 redirects"), "{error}");
    assert_eq!(registry.count(&Method::GET, "/manifests/"), 11);
}

#[tokio::test]
async fn a_redirect_needs_a_usable_place() {
    for (location, words) in
        [("ftp://storage.example/", "no HTTP URL"), ("file:///etc/passwd", "no URL"), ("http://[/", "no URL")]
    {
        let (registry, repository) = open_repository().await;
        registry.once(Method::GET, "/manifests/", to(location));
        let error = repository.manifest(&latest()).await.unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
    let (registry, repository) = open_repository().await;
    registry.once(Method::GET, "/manifests/", Reply::Answer(StatusCode::FOUND, Vec::new(), Bytes::new()));
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(error.message.contains("302 Found without saying where to"), "{error}");
}

#[tokio::test]
async fn an_upload_is_not_sent_to_another_host() {
    let (registry, repository) = open_repository().await;
    let other = TestRegistry::start().await;
    registry.once(Method::PUT, "/manifests/", to(&other.url("/v2/a/b/manifests/latest")));
    let content = Bytes::from_static(b"{}");
    let error = repository.put_manifest(&latest(), "application/vnd.x", content).await.unwrap_err();
    assert!(error.message.contains("to another host"), "{error}");
    assert!(other.seen().is_empty());
    // Within the registry it is.
    registry.once(Method::PUT, "/manifests/latest", to("/v2/a/b/manifests/other"));
    repository.put_manifest(&latest(), "application/vnd.x", Bytes::from_static(b"{}")).await.unwrap();
    assert!(registry.manifest("a/b", &Digest::of(b"{}").to_string()).is_some());
}
