//! Blobs on their way out.

use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::super::test_server::{Access, PASSWORD, Reply, Setup, TestRegistry, Tokens, USERNAME, error_body};
use super::super::{Credentials, Registries, RegistryError, RegistryErrorKind, RemoteRepository};
use super::{content, headers};
use crate::image::Digest;

const SIZE: usize = 100_000;
const CHUNK: u64 = 40_000;
const UPLOADS: &str = "/blobs/uploads/";

async fn registry_for_pieces(setup: Setup, credentials: Credentials) -> (TestRegistry, RemoteRepository) {
    let registry = TestRegistry::with(setup).await;
    let mut settings = registry.settings();
    settings.upload_chunk_bytes = CHUNK;
    let registries = Registries::new(settings).unwrap();
    let repository = registries.repository(&registry.repository("a/b"), credentials);
    (registry, repository)
}

async fn open_registry() -> (TestRegistry, RemoteRepository) {
    registry_for_pieces(Setup::default(), Credentials::Anonymous).await
}

async fn upload(repository: &RemoteRepository, content: &Bytes) -> Result<(), RegistryError> {
    let open = |offset: u64| Ok(io::Cursor::new(content.slice(usize::try_from(offset).unwrap()..)));
    repository.upload_blob(Digest::of(content), content.len() as u64, open, |_| {}).await
}

fn methods(registry: &TestRegistry) -> Vec<Method> {
    let uploads = registry.seen().into_iter().filter(|seen| seen.path.contains(UPLOADS));
    uploads.map(|seen| seen.method).collect()
}

#[tokio::test]
async fn a_small_blob_takes_two_requests() {
    let (registry, repository) = open_registry().await;
    for size in [0, 1, 40_000] {
        let content = content(size);
        upload(&repository, &content).await.unwrap();
        assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
    }
    assert_eq!(methods(&registry), vec![[Method::POST, Method::PUT]; 3].concat());
}

#[tokio::test]
async fn a_large_blob_goes_in_pieces_and_progress_is_told() {
    let (registry, repository) = open_registry().await;
    let content = content(SIZE);
    let heard = Mutex::new(Vec::new());
    let open = |offset: u64| Ok(io::Cursor::new(content.slice(usize::try_from(offset).unwrap()..)));
    let told = |bytes| heard.lock().unwrap().push(bytes);
    repository.upload_blob(Digest::of(&content), SIZE as u64, open, told).await.unwrap();
    assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
    assert_eq!(methods(&registry), [Method::POST, Method::PATCH, Method::PATCH, Method::PATCH, Method::PUT]);
    let heard = heard.into_inner().unwrap();
    assert!(heard.is_sorted() && heard.last() == Some(&(SIZE as u64)), "{heard:?}");
    let ranges = registry.seen().into_iter().filter_map(|seen| seen.headers.get("content-range").cloned());
    assert_eq!(ranges.collect::<Vec<_>>(), ["0-39999", "40000-79999", "80000-99999"]);
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_the_registry_says() {
    let (registry, repository) = open_registry().await;
    let content = content(SIZE);
    registry.once(Method::PATCH, UPLOADS, Reply::TakeAndReset(15_000));
    upload(&repository, &content).await.unwrap();
    assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
    let asked = registry.seen().into_iter().filter(|seen| seen.method == Method::PATCH);
    let ranges: Vec<_> = asked.map(|seen| seen.headers["content-range"].clone()).collect();
    assert_eq!(ranges, ["0-39999", "15000-54999", "55000-94999", "95000-99999"]);
    assert_eq!(registry.count(&Method::POST, UPLOADS), 1);
}

#[tokio::test]
async fn an_upload_that_stands_still_goes_on() {
    let (registry, repository) = open_registry().await;
    registry.once(Method::PATCH, UPLOADS, Reply::Silence);
    let content = content(SIZE);
    upload(&repository, &content).await.unwrap();
    assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
}

#[tokio::test]
async fn a_lost_session_begins_anew() {
    let (registry, repository) = open_registry().await;
    let content = content(SIZE);
    registry.once(Method::PATCH, UPLOADS, Reply::TakeAndReset(15_000));
    let gone = Reply::Answer(StatusCode::NOT_FOUND, Vec::new(), error_body("BLOB_UPLOAD_UNKNOWN", ""));
    registry.once(Method::GET, UPLOADS, gone);
    upload(&repository, &content).await.unwrap();
    assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
    assert_eq!(registry.count(&Method::POST, UPLOADS), 2);
}

/// As Debian's docker-registry does when what had arrived before a break is written only after it was asked.
#[tokio::test]
async fn a_session_that_does_not_go_on_after_a_break_begins_anew() {
    for kept_bytes in [0, 15_000] {
        let (registry, repository) = open_registry().await;
        let content = content(SIZE);
        registry.once(Method::PATCH, UPLOADS, Reply::TakeAndReset(kept_bytes));
        let moved = Reply::Answer(StatusCode::NOT_FOUND, Vec::new(), error_body("BLOB_UPLOAD_INVALID", ""));
        registry.once(Method::PATCH, UPLOADS, moved);
        upload(&repository, &content).await.unwrap();
        assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
        assert_eq!(registry.count(&Method::POST, UPLOADS), 2);
    }
}

#[tokio::test]
async fn sessions_that_never_go_on_have_an_end() {
    let (registry, repository) = open_registry().await;
    for _ in 0..10 {
        registry.once(Method::PATCH, UPLOADS, Reply::TakeAndReset(15_000));
        let moved = Reply::Answer(StatusCode::NOT_FOUND, Vec::new(), error_body("BLOB_UPLOAD_INVALID", "no"));
        registry.once(Method::PATCH, UPLOADS, moved);
    }
    let error = upload(&repository, &content(SIZE)).await.unwrap_err();
    assert!(error.message.contains("does not go on after a break: blob upload invalid: no"), "{error}");
}

#[tokio::test]
async fn an_upload_that_was_finished_after_all_is_finished() {
    let (registry, repository) = open_registry().await;
    let content = content(SIZE);
    // The answer to the last request is lost, and so is the session, as after a success.
    registry.once(Method::PUT, UPLOADS, Reply::Reset);
    registry.once(Method::GET, UPLOADS, Reply::Answer(StatusCode::NOT_FOUND, Vec::new(), Bytes::new()));
    registry.add_blob("a/b", content.clone());
    upload(&repository, &content).await.unwrap();
    assert_eq!(registry.count(&Method::POST, UPLOADS), 1);
}

#[tokio::test]
async fn a_registry_that_takes_no_second_piece_gets_one() {
    let (registry, repository) = open_registry().await;
    registry.refuse_second_pieces();
    let content = content(SIZE);
    upload(&repository, &content).await.unwrap();
    assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
    let expected = [Method::POST, Method::PATCH, Method::PATCH, Method::POST, Method::PATCH, Method::PUT];
    assert_eq!(methods(&registry), expected);
}

#[tokio::test]
async fn a_registry_may_wish_for_larger_pieces() {
    let (registry, repository) = open_registry().await;
    registry.once(
        Method::POST,
        UPLOADS,
        Reply::Answer(
            StatusCode::ACCEPTED,
            headers(&[("location", "/v2/a/b/blobs/uploads/none"), ("oci-chunk-min-length", "1000000")]),
            Bytes::new(),
        ),
    );
    registry.once(Method::PUT, UPLOADS, Reply::Answer(StatusCode::CREATED, Vec::new(), Bytes::new()));
    upload(&repository, &content(SIZE)).await.unwrap();
    assert_eq!(methods(&registry), [Method::POST, Method::PUT]);
}

#[tokio::test]
async fn lies_about_an_upload_are_refused() {
    let location = ("location", "/v2/a/b/blobs/uploads/x");
    for (answer, words) in [
        (vec![location, ("range", "0-40000")], "more than was sent"),
        (vec![location, ("range", "0-18446744073709551615")], "a range without end"),
        (vec![location, ("range", "7-9")], "\"7-9\" is no range"),
        (vec![("location", "http://[/")], "no URL"),
        (vec![("location", "ftp://x/")], "no HTTP URL"),
    ] {
        let (registry, repository) = open_registry().await;
        let reply = Reply::Answer(StatusCode::ACCEPTED, headers(&answer), Bytes::new());
        registry.once(Method::PATCH, UPLOADS, reply);
        let error = upload(&repository, &content(SIZE)).await.unwrap_err();
        assert_eq!(error.kind, RegistryErrorKind::InvalidAnswer);
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_registry_that_never_keeps_anything_is_left() {
    let (registry, repository) = open_registry().await;
    for _ in 0..10 {
        let nothing = headers(&[("range", "0-0")]);
        registry.once(Method::PATCH, UPLOADS, Reply::Answer(StatusCode::ACCEPTED, nothing, Bytes::new()));
    }
    let error = upload(&repository, &content(SIZE)).await.unwrap_err();
    assert!(error.message.contains("kept nothing of the piece from 0 on"), "{error}");
    assert_eq!(registry.count(&Method::PATCH, UPLOADS), 5);
}

#[tokio::test]
async fn another_host_gets_the_bytes_and_no_credentials() {
    let other = TestRegistry::start().await;
    let setup = Setup { access: Access::Password, ..Setup::default() };
    let credentials = Credentials::Basic { username: USERNAME.into(), password: PASSWORD.into() };
    let (registry, repository) = registry_for_pieces(setup, credentials).await;
    let place = other.url("/v2/a/b/blobs/uploads/there");
    let begun = Reply::Answer(StatusCode::ACCEPTED, headers(&[("location", &place)]), Bytes::new());
    registry.once(Method::POST, UPLOADS, begun);
    other.once(Method::PUT, UPLOADS, Reply::Answer(StatusCode::CREATED, Vec::new(), Bytes::new()));
    upload(&repository, &content(10)).await.unwrap();
    assert_eq!(other.seen().len(), 1);
    assert!(!other.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_token_that_ends_during_an_upload_is_renewed() {
    for uses in 1..6 {
        let tokens = Tokens { uses: Some(uses), ..Tokens::default() };
        let setup = Setup { access: Access::Token(tokens), ..Setup::default() };
        let credentials = Credentials::Basic { username: USERNAME.into(), password: PASSWORD.into() };
        let (registry, repository) = registry_for_pieces(setup, credentials).await;
        let content = content(SIZE);
        upload(&repository, &content).await.unwrap();
        assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_nobodys_fault_but_its_own() {
    let (_registry, repository) = open_registry().await;
    let digest = Digest::of(b"whatever");
    let absent = |_| Err::<tokio::io::Empty, _>(io::Error::other("no such file"));
    let error = repository.upload_blob(digest, 10, absent, |_| {}).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Source);
    assert!(error.message.contains("cannot be read: no such file"), "{error}");
    let short = |_| Ok(&b"too"[..]);
    let error = repository.upload_blob(digest, 10, short, |_| {}).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Source);
    assert!(error.message.contains("ends 7 bytes too early"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_not_the_blob_are_refused() {
    let (_registry, repository) = open_registry().await;
    let open = |_| Ok(&b"something else"[..]);
    let error = repository.upload_blob(Digest::of(b"whatever"), 14, open, |_| {}).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::Refused);
    assert!(error.message.contains("digest invalid: provided digest did not match"), "{error}");
}

#[tokio::test]
async fn a_blob_of_another_repository_is_mounted() {
    let (registry, repository) = open_registry().await;
    let digest = registry.add_blob("base", content(10));
    assert!(repository.mount_blob(&digest, &registry.repository("base")).await.unwrap());
    assert!(registry.blob("a/b", &digest).is_some());
    assert_eq!(repository.has_blob(&digest).await.unwrap(), Some(10));
    assert_eq!(repository.has_blob(&Digest::of(b"absent")).await.unwrap(), None);
}

#[tokio::test]
async fn a_mount_that_becomes_an_upload_goes_on_as_one() {
    let (registry, repository) = open_registry().await;
    let content = content(SIZE);
    assert!(!repository.mount_blob(&Digest::of(&content), &registry.repository("base")).await.unwrap());
    upload(&repository, &content).await.unwrap();
    assert_eq!(registry.blob("a/b", &Digest::of(&content)).unwrap(), content);
    assert_eq!(registry.count(&Method::POST, UPLOADS), 1);
}

#[tokio::test]
async fn only_other_repositories_of_the_same_registry_are_mounted_from() {
    let (registry, repository) = open_registry().await;
    let elsewhere = crate::image::Repository::parse("registry.example/a").unwrap();
    for from in [elsewhere, registry.repository("a/b")] {
        assert!(!repository.mount_blob(&Digest::of(b""), &from).await.unwrap());
    }
    assert!(registry.seen().is_empty());
    let refused = Reply::Answer(StatusCode::METHOD_NOT_ALLOWED, Vec::new(), Bytes::new());
    registry.once(Method::POST, UPLOADS, refused);
    assert!(!repository.mount_blob(&Digest::of(b""), &registry.repository("c")).await.unwrap());
}
