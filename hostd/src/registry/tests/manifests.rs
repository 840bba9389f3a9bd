//! Manifests and tags.

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::super::RegistryErrorKind;
use super::super::test_server::{Piece, Reply, error_body};
use super::{headers, open_repository};
use crate::image::{Digest, Selector};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST: &[u8] = br#"{"schemaVersion": 2}"#;

fn latest() -> Selector {
    Selector::Tag("latest".to_owned())
}

fn answered(kind: &str, body: &'static [u8]) -> Reply {
    Reply::Answer(StatusCode::OK, headers(&[("content-type", kind)]), Bytes::from_static(body))
}

#[tokio::test]
async fn a_manifest_comes_by_tag_and_by_digest() {
    let (registry, repository) = open_repository().await;
    let digest = registry.add_manifest("a/b", "latest", OCI, MANIFEST);
    for selector in [latest(), Selector::Manifest(digest)] {
        let manifest = repository.manifest(&selector).await.unwrap();
        assert_eq!((manifest.digest, manifest.media_type.as_str()), (digest, OCI));
        assert_eq!(manifest.content, MANIFEST);
        let head = repository.head_manifest(&selector).await.unwrap();
        assert_eq!(head, Some((digest, OCI.to_owned(), MANIFEST.len() as u64)));
    }
    let accepted = registry.seen().last().unwrap().headers.get_all("accept").iter().count();
    assert_eq!(accepted, 4);
}

#[tokio::test]
async fn what_is_missing_is_told_in_dockers_words() {
    let (registry, repository) = open_repository().await;
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::NotFound);
    let expected =
        format!("manifest for {}/a/b:latest not found: manifest unknown: manifest unknown", registry.host());
    assert_eq!(error.message, expected);
    assert_eq!(repository.head_manifest(&latest()).await.unwrap(), None);
    registry.once(
        Method::GET,
        "/manifests/",
        Reply::Answer(StatusCode::NOT_FOUND, Vec::new(), error_body("NAME_UNKNOWN", "who?")),
    );
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.message, format!("repository {}/a/b not found: name unknown: who?", registry.host()));
}

#[tokio::test]
async fn refusals_have_kinds_and_words() {
    for (status, code, kind, words) in [
        (
            403,
            "DENIED",
            RegistryErrorKind::Denied,
            "pull access denied for {}/a/b, repository does not exist or may require 'docker login': denied: no",
        ),
        (
            403,
            "",
            RegistryErrorKind::Denied,
            "pull access denied for {}/a/b, repository does not exist or may require 'docker login': denied: answered 403 Forbidden: no",
        ),
        (
            401,
            "UNAUTHORIZED",
            RegistryErrorKind::Unauthorized,
            "registry {}: manifest of {}/a/b:latest: unauthorized: no",
        ),
        (
            400,
            "NAME_INVALID",
            RegistryErrorKind::Refused,
            "registry {}: manifest of {}/a/b:latest: name invalid: no",
        ),
        (
            418,
            "",
            RegistryErrorKind::Refused,
            "registry {}: manifest of {}/a/b:latest: answered 418 I'm a teapot: no",
        ),
    ] {
        let (registry, repository) = open_repository().await;
        let status = StatusCode::from_u16(status).unwrap();
        registry.once(Method::GET, "/manifests/", Reply::Answer(status, Vec::new(), error_body(code, "no")));
        let error = repository.manifest(&latest()).await.unwrap_err();
        assert_eq!((error.kind, error.message), (kind, words.replace("{}", registry.host())));
        assert_eq!(registry.count(&Method::GET, "/manifests/"), 1);
    }
}

#[tokio::test]
async fn a_registry_that_is_busy_is_asked_again() {
    for status in [500, 502, 503, 429] {
        let (registry, repository) = open_repository().await;
        registry.add_manifest("a/b", "latest", OCI, MANIFEST);
        let status = StatusCode::from_u16(status).unwrap();
        for _ in 0..2 {
            registry.once(Method::GET, "/manifests/", Reply::Answer(status, Vec::new(), Bytes::new()));
        }
        registry.once(Method::GET, "/manifests/", Reply::Reset);
        repository.manifest(&latest()).await.unwrap();
        assert_eq!(registry.count(&Method::GET, "/manifests/"), 4);
    }
}

#[tokio::test]
async fn too_many_requests_are_said_to_be_so() {
    let (registry, repository) = open_repository().await;
    for _ in 0..9 {
        let limit = error_body("TOOMANYREQUESTS", "You have reached your pull rate limit.");
        registry.once(
            Method::GET,
            "/manifests/",
            Reply::Answer(StatusCode::TOO_MANY_REQUESTS, Vec::new(), limit),
        );
    }
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::TooManyRequests);
    assert!(error.message.ends_with("toomanyrequests: You have reached your pull rate limit."), "{error}");
    assert_eq!(registry.count(&Method::GET, "/manifests/"), 5);
}

#[tokio::test]
async fn a_wait_of_days_is_not_waited() {
    let (registry, repository) = open_repository().await;
    let later = headers(&[("retry-after", "86400")]);
    registry.once(
        Method::GET,
        "/manifests/",
        Reply::Answer(StatusCode::TOO_MANY_REQUESTS, later, Bytes::new()),
    );
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::TooManyRequests);
    assert_eq!(registry.count(&Method::GET, "/manifests/"), 1);
}

#[tokio::test]
async fn content_that_is_not_what_was_asked_for_is_refused() {
    let (registry, repository) = open_repository().await;
    let wanted = Digest::of(b"something else");
    registry.once(Method::GET, "/manifests/", answered(OCI, MANIFEST));
    let error = repository.manifest(&Selector::Manifest(wanted)).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::InvalidAnswer);
    assert!(error.message.contains(&wanted.to_string()), "{error}");
    assert!(error.message.contains(&Digest::of(MANIFEST).to_string()), "{error}");

    let stated = headers(&[("content-type", OCI), ("docker-content-digest", &wanted.to_string())]);
    registry.once(Method::GET, "/manifests/", Reply::Answer(StatusCode::OK, stated, MANIFEST.into()));
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(error.message.contains("and the registry says"), "{error}");
}

#[tokio::test]
async fn media_types_are_looked_for_in_the_content_too() {
    const TYPED: &[u8] = br#"{"mediaType": "application/vnd.oci.image.index.v1+json"}"#;
    let (registry, repository) = open_repository().await;
    registry.once(Method::GET, "/manifests/", answered("application/json; charset=utf-8", TYPED));
    let manifest = repository.manifest(&latest()).await.unwrap();
    assert_eq!(manifest.media_type, "application/vnd.oci.image.index.v1+json");
    registry.once(
        Method::GET,
        "/manifests/",
        answered("Application/Vnd.OCI.image.manifest.v1+json; x=y", TYPED),
    );
    assert_eq!(repository.manifest(&latest()).await.unwrap().media_type, OCI);
    for (kind, body, words) in [
        ("text/html", b"<html>" as &[u8], "answers with a web page"),
        ("text/plain", b"{}", "a manifest of the unknown type \"text/plain\""),
    ] {
        registry.once(Method::GET, "/manifests/", answered(kind, body));
        let error = repository.manifest(&latest()).await.unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_manifest_of_100_mb_is_refused_while_it_is_read() {
    let (registry, repository) = open_repository().await;
    let kind = headers(&[("content-type", OCI)]);
    let megabyte = Bytes::from(vec![b' '; 1 << 20]);
    let pieces = vec![Piece::Bytes(megabyte); 100];
    registry.once(Method::GET, "/manifests/", Reply::Pieces(StatusCode::OK, kind.clone(), pieces));
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(error.message.contains("an answer of more than 4194304 bytes"), "{error}");

    let announced = headers(&[("content-type", OCI), ("content-length", "104857600")]);
    registry.once(Method::GET, "/manifests/", Reply::Pieces(StatusCode::OK, announced, vec![Piece::Stall]));
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(error.message.contains("an answer of more than 4194304 bytes"), "{error}");
    assert_eq!(registry.count(&Method::GET, "/manifests/"), 2);
}

#[tokio::test]
async fn a_huge_error_is_not_read_to_its_end() {
    let (registry, repository) = open_repository().await;
    let megabyte = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = [vec![Piece::Bytes(megabyte); 100], vec![Piece::Stall]].concat();
    registry.once(Method::GET, "/manifests/", Reply::Pieces(StatusCode::NOT_FOUND, Vec::new(), pieces));
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(error.message.len() < 1000, "{error}");
}

#[tokio::test]
async fn a_head_that_says_too_little_is_followed_by_a_get() {
    let (registry, repository) = open_repository().await;
    let digest = registry.add_manifest("a/b", "latest", OCI, MANIFEST);
    for reply in [
        Reply::Answer(StatusCode::OK, Vec::new(), Bytes::new()),
        Reply::Answer(StatusCode::METHOD_NOT_ALLOWED, Vec::new(), Bytes::new()),
    ] {
        registry.once(Method::HEAD, "/manifests/", reply);
        let head = repository.head_manifest(&latest()).await.unwrap();
        assert_eq!(head, Some((digest, OCI.to_owned(), MANIFEST.len() as u64)));
    }
    assert_eq!(registry.count(&Method::GET, "/manifests/"), 2);
}

#[tokio::test]
async fn a_manifest_is_stored_as_it_is() {
    let (registry, repository) = open_repository().await;
    let digest = Digest::of(MANIFEST);
    for selector in [latest(), Selector::Manifest(digest)] {
        assert_eq!(repository.put_manifest(&selector, OCI, MANIFEST.into()).await.unwrap(), digest);
    }
    assert_eq!(registry.manifest("a/b", "latest"), Some((OCI.to_owned(), MANIFEST.into())));
    let other = Selector::Manifest(Digest::of(b"other"));
    let error = repository.put_manifest(&other, OCI, MANIFEST.into()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Source);

    let stated = headers(&[("docker-content-digest", &Digest::of(b"other").to_string())]);
    registry.once(Method::PUT, "/manifests/", Reply::Answer(StatusCode::CREATED, stated, Bytes::new()));
    let error = repository.put_manifest(&latest(), OCI, MANIFEST.into()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::InvalidAnswer);
}

#[tokio::test]
async fn a_push_that_is_denied_says_so() {
    let (registry, repository) = open_repository().await;
    let denied = error_body("DENIED", "requested access to the resource is denied");
    registry.once(Method::PUT, "/manifests/", Reply::Answer(StatusCode::FORBIDDEN, Vec::new(), denied));
    let error = repository.put_manifest(&latest(), OCI, MANIFEST.into()).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Denied);
    assert!(error.message.starts_with(&format!("push access denied for {}/a/b", registry.host())), "{error}");
    assert!(error.message.ends_with("denied: requested access to the resource is denied"), "{error}");
}

#[tokio::test]
async fn tags_are_collected_over_all_pages() {
    let (registry, repository) = open_repository().await;
    assert_eq!(repository.tags().await.unwrap(), Vec::<String>::new());
    for tag in ["1", "2", "3", "4", "5"] {
        registry.add_manifest("a/b", tag, OCI, MANIFEST);
    }
    assert_eq!(repository.tags().await.unwrap(), ["1", "2", "3", "4", "5"]);
    let none = Bytes::from_static(br#"{"name": "a/b", "tags": null}"#);
    registry.once(Method::GET, "/tags/list", Reply::Answer(StatusCode::OK, Vec::new(), none));
    assert_eq!(repository.tags().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn lists_of_tags_that_lie_are_refused() {
    for (link, body, words) in [
        ("", r#"{"tags": ["../../etc"]}"#, "\"../../etc\" is no tag"),
        ("", r#"{"tags": [7]}"#, "no list of tags"),
        ("", "<html>", "no list of tags"),
        ("<http://other.example/v2/>; rel=\"next\"", "{}", "goes on at other.example"),
        ("<http://[/>; rel=next", "{}", "no URL"),
    ] {
        let (registry, repository) = open_repository().await;
        let reply = Reply::Answer(StatusCode::OK, headers(&[("link", link)]), body.into());
        registry.once(Method::GET, "/tags/list", reply);
        let error = repository.tags().await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::InvalidAnswer);
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_list_of_tags_that_bites_its_tail_ends() {
    let (registry, repository) = open_repository().await;
    for _ in 0..5 {
        let link = headers(&[("link", "</v2/a/b/tags/list?page=2>; rel=\"next\"")]);
        registry.once(Method::GET, "/tags/list", Reply::Answer(StatusCode::OK, link, "{}".into()));
    }
    let error = repository.tags().await.unwrap_err();
    assert!(error.message.contains("leads back to itself"), "{error}");
}
