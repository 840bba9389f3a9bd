//! Mirrors: asked before the default registry, and never instead of it.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::io::AsyncReadExt;

use super::super::test_server::{Access, PASSWORD, Piece, Reply, Setup, TestRegistry, USERNAME};
use super::super::{Credentials, Registries, RegistryErrorKind, RemoteRepository};
use super::{content, headers};
use crate::image::{Digest, Repository, Selector};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const OFFICIAL: &str = "library/busybox";

fn latest() -> Selector {
    Selector::Tag("latest".to_owned())
}

/// The official busybox, as the default registry (which wants a password) and these mirrors have it.
fn busybox(registry: &TestRegistry, mirrors: &[String]) -> RemoteRepository {
    let mut settings = registry.settings();
    settings.mirrors = mirrors.to_vec();
    let credentials = Credentials::Basic { username: USERNAME.into(), password: PASSWORD.into() };
    Registries::new(settings).unwrap().repository(&Repository::parse("busybox").unwrap(), credentials)
}

async fn default_registry() -> TestRegistry {
    TestRegistry::with(Setup { access: Access::Password, ..Setup::default() }).await
}

#[tokio::test]
async fn the_first_mirror_that_has_it_is_enough() {
    let (registry, empty, mirror) =
        (default_registry().await, TestRegistry::start().await, TestRegistry::start().await);
    mirror.add_manifest(OFFICIAL, "latest", OCI, "{}");
    let digest = mirror.add_blob(OFFICIAL, content(100));
    let repository = busybox(&registry, &[empty.url(""), mirror.url("")]);
    assert_eq!(repository.manifest(&latest()).await.unwrap().content, "{}");
    repository.blob(digest, 100).read_to_end(&mut Vec::new()).await.unwrap();
    assert!(registry.seen().is_empty());
    assert_eq!(empty.count(&Method::GET, "/manifests/"), 1);
    // The password is the registry's.
    let everybody = [empty.seen(), mirror.seen()].concat();
    assert!(everybody.iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn what_no_mirror_has_comes_from_the_registry() {
    let (registry, mirror) = (default_registry().await, TestRegistry::start().await);
    registry.add_manifest(OFFICIAL, "latest", OCI, "{}");
    let repository = busybox(&registry, &[mirror.url("")]);
    repository.manifest(&latest()).await.unwrap();
    assert_eq!(repository.tags().await.unwrap(), Vec::<String>::new());
    let error = repository.manifest(&Selector::Tag("none".into())).await.unwrap_err();
    assert_eq!(error.message, "manifest for busybox:none not found: manifest unknown: manifest unknown");
}

#[tokio::test]
async fn a_mirror_that_is_down_is_asked_once() {
    let registry = default_registry().await;
    registry.add_manifest(OFFICIAL, "latest", OCI, "{}");
    let mirror = TestRegistry::start().await;
    for _ in 0..20 {
        mirror.once(Method::GET, "", Reply::Reset);
    }
    let repository = busybox(&registry, &["http://127.0.0.1:1".to_owned(), mirror.url("")]);
    for _ in 0..3 {
        repository.manifest(&latest()).await.unwrap();
    }
    assert_eq!(mirror.seen().len(), 2);
}

#[tokio::test]
async fn a_blob_that_a_mirror_breaks_off_goes_on_at_the_registry() {
    let (registry, mirror) = (default_registry().await, TestRegistry::start().await);
    let digest = registry.add_blob(OFFICIAL, content(1000));
    for _ in 0..2 {
        let pieces = vec![Piece::Bytes(content(1000).slice(..300)), Piece::Break];
        mirror.once(Method::GET, "/blobs/", Reply::Pieces(StatusCode::OK, Vec::new(), pieces));
    }
    let mut bytes = Vec::new();
    busybox(&registry, &[mirror.url("")]).blob(digest, 1000).read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, content(1000));
    assert_eq!(registry.seen().last().unwrap().headers["range"], "bytes=300-");
}

#[tokio::test]
async fn a_mirror_may_live_below_a_path_and_lie() {
    let (registry, mirror) = (default_registry().await, TestRegistry::start().await);
    registry.add_manifest(OFFICIAL, "latest", OCI, "{}");
    let lie = headers(&[("content-type", OCI), ("docker-content-digest", &Digest::of(b"").to_string())]);
    mirror.once(Method::GET, "/hub/v2/library/busybox/", Reply::Answer(StatusCode::OK, lie, Bytes::new()));
    let repository = busybox(&registry, &[mirror.url("/hub")]);
    // No content has the digest of nothing but nothing, which is no manifest's type that anybody knows.
    let manifest = repository.manifest(&Selector::Manifest(Digest::of(b"{}"))).await.unwrap();
    assert_eq!(manifest.content, "{}");
    assert_eq!(mirror.count(&Method::GET, "/hub/v2/"), 2);
}

#[tokio::test]
async fn pushes_and_other_registries_know_no_mirrors() {
    let (registry, mirror) = (default_registry().await, TestRegistry::start().await);
    let repository = busybox(&registry, &[mirror.url("")]);
    repository.put_manifest(&latest(), OCI, Bytes::from_static(b"{}")).await.unwrap();
    repository.upload_blob(Digest::of(b"x"), 1, |_| Ok(&b"x"[..]), |_| {}).await.unwrap();
    assert_eq!(repository.has_blob(&Digest::of(b"x")).await.unwrap(), Some(1));

    let mut settings = registry.settings();
    settings.mirrors = vec![mirror.url("")];
    let other = Registries::new(settings).unwrap();
    let other = other.repository(&registry.repository("a/b"), Credentials::Anonymous);
    let error = other.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Unauthorized);
    assert!(mirror.seen().is_empty());
}
