//! Blobs on their way in.

use std::io::Read;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::io::AsyncReadExt;

use super::super::test_server::{Piece, Reply, TestRegistry};
use super::super::{RegistryError, RegistryErrorKind, RemoteRepository};
use super::{content, headers, open_repository};
use crate::image::Digest;

const SIZE: usize = 300_000;
const BLOBS: &str = "/blobs/";

async fn registry_with_blob() -> (TestRegistry, RemoteRepository) {
    let (registry, repository) = open_repository().await;
    registry.add_blob("a/b", content(SIZE));
    (registry, repository)
}

async fn fetched(repository: &RemoteRepository) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    let mut blob = repository.blob(Digest::of(&content(SIZE)), SIZE as u64);
    blob.read_to_end(&mut bytes).await.map_err(|error| {
        let error = error.into_inner().unwrap();
        error.downcast_ref::<RegistryError>().unwrap().clone()
    })?;
    Ok(bytes)
}

/// The first bytes of the blob, then something else, under headers that promise all of it.
fn begun(bytes: usize, then: Piece) -> Reply {
    let pieces = vec![Piece::Bytes(content(SIZE).slice(..bytes)), then];
    Reply::Pieces(StatusCode::OK, headers(&[("content-length", "300000")]), pieces)
}

fn ranges(registry: &TestRegistry) -> Vec<Option<String>> {
    let asked = registry.seen().into_iter().filter(|seen| seen.path.contains(BLOBS));
    asked.map(|seen| seen.headers.get("range").map(|range| range.to_str().unwrap().to_owned())).collect()
}

/// The blob cannot be had, whatever is tried: the registry says this whenever it is asked.
async fn failure_with(reply: impl Fn() -> Reply) -> RegistryError {
    let (registry, repository) = registry_with_blob().await;
    for _ in 0..10 {
        registry.once(Method::GET, BLOBS, reply());
    }
    let error = fetched(&repository).await.unwrap_err();
    let named = error.message.contains(registry.host()) && error.message.contains("sha256:");
    assert!(named, "{error}");
    error
}

#[tokio::test]
async fn a_blob_arrives_whole() {
    let (registry, repository) = registry_with_blob().await;
    assert_eq!(fetched(&repository).await.unwrap(), content(SIZE));
    assert_eq!(ranges(&registry), [None]);
}

#[tokio::test]
async fn a_thread_may_read_it_too() {
    let (_registry, repository) = registry_with_blob().await;
    let mut blob = repository.blob(Digest::of(&content(SIZE)), SIZE as u64).into_blocking();
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes).map(|_| bytes)
    });
    assert_eq!(read.await.unwrap().unwrap(), content(SIZE));
}

#[tokio::test]
async fn chunks_come_without_a_copy() {
    let (_registry, repository) = registry_with_blob().await;
    let mut blob = repository.blob(Digest::of(&content(SIZE)), SIZE as u64);
    let mut bytes = Vec::new();
    while let Some(chunk) = blob.next_chunk().await.unwrap() {
        assert!(!chunk.is_empty());
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes, content(SIZE));
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke() {
    let (registry, repository) = registry_with_blob().await;
    registry.once(Method::GET, BLOBS, begun(100_000, Piece::Break));
    assert_eq!(fetched(&repository).await.unwrap(), content(SIZE));
    assert_eq!(ranges(&registry), [None, Some("bytes=100000-".to_owned())]);
}

#[tokio::test]
async fn a_stalled_transfer_goes_on_after_the_deadline() {
    let (registry, repository) = registry_with_blob().await;
    registry.once(Method::GET, BLOBS, begun(100_000, Piece::Stall));
    registry.once(Method::GET, BLOBS, Reply::Silence);
    registry.once(Method::GET, BLOBS, Reply::Reset);
    assert_eq!(fetched(&repository).await.unwrap(), content(SIZE));
    assert_eq!(ranges(&registry).len(), 4);
}

#[tokio::test]
async fn a_server_without_ranges_starts_over_and_the_reader_does_not_notice() {
    let (registry, repository) = registry_with_blob().await;
    registry.once(Method::GET, BLOBS, begun(100_000, Piece::Break));
    registry.once(Method::GET, BLOBS, Reply::Answer(StatusCode::OK, Vec::new(), content(SIZE)));
    assert_eq!(fetched(&repository).await.unwrap(), content(SIZE));
    assert_eq!(ranges(&registry).len(), 2);
}

#[tokio::test]
async fn a_wrong_range_is_not_believed() {
    for range in ["bytes 99999-299999/300000", "bytes 100000-299999/300001", "bytes 100000-200000/*", "", "x"]
    {
        let (registry, repository) = registry_with_blob().await;
        registry.once(Method::GET, BLOBS, begun(100_000, Piece::Break));
        let wrong = headers(&[("content-range", range)]);
        let reply = Reply::Answer(StatusCode::PARTIAL_CONTENT, wrong, content(SIZE).slice(99_999..));
        registry.once(Method::GET, BLOBS, reply);
        assert_eq!(fetched(&repository).await.unwrap(), content(SIZE), "{range}");
        // Ranges are not asked for again.
        assert_eq!(ranges(&registry).last().unwrap(), &None, "{range}");
    }
}

#[tokio::test]
async fn a_range_that_cannot_be_had_means_the_whole_blob() {
    let (registry, repository) = registry_with_blob().await;
    registry.once(Method::GET, BLOBS, begun(100_000, Piece::Break));
    let reply = Reply::Answer(StatusCode::RANGE_NOT_SATISFIABLE, Vec::new(), Bytes::new());
    registry.once(Method::GET, BLOBS, reply);
    assert_eq!(fetched(&repository).await.unwrap(), content(SIZE));
}

#[tokio::test]
async fn a_lie_about_the_length_is_found_before_the_content() {
    let error = failure_with(|| Reply::Answer(StatusCode::OK, Vec::new(), content(SIZE - 1))).await;
    assert_eq!(error.kind, RegistryErrorKind::InvalidAnswer);
    assert!(error.message.contains("announces 299999 bytes where 300000 were expected"), "{error}");
}

#[tokio::test]
async fn more_bytes_than_announced_are_refused() {
    let too_many = || {
        let pieces = vec![Piece::Bytes(content(SIZE)), Piece::Bytes(Bytes::from_static(b"more"))];
        Reply::Pieces(StatusCode::OK, Vec::new(), pieces)
    };
    let error = failure_with(too_many).await;
    assert_eq!(error.kind, RegistryErrorKind::InvalidAnswer);
    assert!(error.message.contains("sends more than its 300000 bytes"), "{error}");
}

#[tokio::test]
async fn an_early_end_is_an_error_in_the_end() {
    let short = || Reply::Pieces(StatusCode::OK, Vec::new(), vec![Piece::Bytes(content(1000))]);
    let error = failure_with(short).await;
    assert_eq!(error.kind, RegistryErrorKind::Unreachable);
    assert!(error.message.contains("ended after 1000 of 300000 bytes"), "{error}");
}

#[tokio::test]
async fn a_transfer_that_always_stalls_ends() {
    let error = failure_with(|| begun(10, Piece::Stall)).await;
    assert!(error.message.contains("nothing arrived for 300ms"), "{error}");
}

#[tokio::test]
async fn a_web_page_is_no_blob() {
    let page = || {
        let page = Bytes::from_static(b"<html>log in to the hotel</html>");
        Reply::Answer(StatusCode::OK, headers(&[("content-type", "text/html; charset=utf-8")]), page)
    };
    let error = failure_with(page).await;
    assert!(error.message.contains("a web page instead of the blob"), "{error}");
}

#[tokio::test]
async fn a_missing_blob_is_asked_for_once() {
    let (registry, repository) = open_repository().await;
    let error = fetched(&repository).await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::NotFound);
    assert!(error.message.ends_with("blob unknown: blob unknown"), "{error}");
    assert_eq!(registry.count(&Method::GET, BLOBS), 1);
}

#[tokio::test]
async fn an_empty_blob_needs_no_request() {
    let (registry, repository) = open_repository().await;
    let mut bytes = Vec::new();
    repository.blob(Digest::of(b""), 0).read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.is_empty() && registry.seen().is_empty());
}

#[tokio::test]
async fn no_more_blobs_come_at_a_time_than_allowed() {
    let registry = TestRegistry::start().await;
    let mut settings = registry.settings();
    settings.max_concurrent_downloads = 2;
    settings.max_download_attempts = 1;
    let registries = super::Registries::new(settings).unwrap();
    let repository = registries.repository(&registry.repository("a/b"), super::Credentials::Anonymous);
    let blobs: Vec<_> = (0..4u8).map(|i| repository.blob(Digest::of(&[i]), 1)).collect();
    for _ in 0..4 {
        registry.once(Method::GET, BLOBS, Reply::Silence);
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(registry.count(&Method::GET, BLOBS), 2);
    drop(blobs);
}

#[tokio::test]
async fn who_stops_reading_ends_the_transfer() {
    let (registry, repository) = registry_with_blob().await;
    registry.once(Method::GET, BLOBS, begun(100_000, Piece::Break));
    let mut blob = repository.blob(Digest::of(&content(SIZE)), SIZE as u64);
    blob.next_chunk().await.unwrap();
    drop(blob);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(ranges(&registry), [None]);
}
