//! The client against Debian's docker-registry, whose habits are nobody's invention.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use super::super::test_server::{BreakingLine, quick_settings};
use super::super::{Credentials, Registries, RegistryErrorKind, RemoteRepository};
use super::content;
use crate::image::{Digest, Repository, Selector};

const PROGRAM: &str = "docker-registry";
const START_DEADLINE: Duration = Duration::from_secs(20);
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const CHUNK: u64 = 1 << 20;

/// A running docker-registry, ended with the test.
struct DebianRegistry {
    host: String,
    process: Child,
    _directory: TempDir,
}

impl DebianRegistry {
    /// None if it is not installed; says so.
    async fn start(test: &str) -> Option<Self> {
        if Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: {test}: {PROGRAM} is not installed");
            return None;
        }
        let directory = TempDir::new().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = free.local_addr().unwrap().to_string();
        drop(free);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '{host}'}}\n",
            directory.path().join("data").display()
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let process = Command::new(PROGRAM)
            .args(["serve".as_ref(), path.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while tokio::net::TcpStream::connect(&host).await.is_err() {
            assert!(begin.elapsed() < START_DEADLINE, "{PROGRAM} does not answer at {host}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(Self { host, process, _directory: directory })
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn repository(host: &str, path: &str) -> RemoteRepository {
    let mut settings = quick_settings();
    settings.upload_chunk_bytes = CHUNK;
    // A busy machine's registry may take its time.
    settings.patience.answer = Duration::from_secs(20);
    settings.patience.commit = Duration::from_secs(20);
    settings.patience.no_progress = Duration::from_secs(20);
    let name = Repository::parse(&format!("{host}/{path}")).unwrap();
    Registries::new(settings).unwrap().repository(&name, Credentials::Anonymous)
}

async fn upload(repository: &RemoteRepository, content: &Bytes) -> Digest {
    let digest = Digest::of(content);
    let open =
        |offset: u64| Ok::<_, io::Error>(io::Cursor::new(content.slice(usize::try_from(offset).unwrap()..)));
    repository.upload_blob(digest, content.len() as u64, open, |_| {}).await.unwrap();
    digest
}

async fn download(repository: &RemoteRepository, digest: Digest, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    repository.blob(digest, size as u64).read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn an_image_goes_in_and_comes_out_as_it_was() {
    let test = "an_image_goes_in_and_comes_out_as_it_was";
    let Some(registry) = DebianRegistry::start(test).await else { return };
    let there = repository(&registry.host, "a/b");
    let (config, layer) = (Bytes::from_static(b"{}"), content(3_500_000));
    let (config_digest, layer_digest) = (upload(&there, &config).await, upload(&there, &layer).await);
    assert_eq!(there.has_blob(&layer_digest).await.unwrap(), Some(3_500_000));
    assert_eq!(there.has_blob(&Digest::of(b"absent")).await.unwrap(), None);
    assert_eq!(download(&there, layer_digest, layer.len()).await, layer);

    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": 2},
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer_digest,
            "size": layer.len(),
        }],
    });
    let manifest = Bytes::from(manifest.to_string());
    let digest = Digest::of(&manifest);
    for tag in ["latest", "other"] {
        let tag = Selector::Tag(tag.to_owned());
        assert_eq!(there.put_manifest(&tag, OCI, manifest.clone()).await.unwrap(), digest);
        let fetched = there.manifest(&tag).await.unwrap();
        assert_eq!((fetched.digest, fetched.media_type.as_str()), (digest, OCI));
        assert_eq!(fetched.content, manifest);
        let head = there.head_manifest(&tag).await.unwrap().unwrap();
        assert_eq!(head, (digest, OCI.to_owned(), manifest.len() as u64));
    }
    assert_eq!(there.tags().await.unwrap(), ["latest", "other"]);

    let elsewhere = repository(&registry.host, "c");
    assert!(elsewhere.mount_blob(&layer_digest, there.repository()).await.unwrap());
    assert!(!elsewhere.mount_blob(&Digest::of(b"absent"), there.repository()).await.unwrap());
    let absent = Bytes::from_static(b"absent");
    upload(&elsewhere, &absent).await;
    assert_eq!(download(&elsewhere, layer_digest, layer.len()).await, layer);
}

#[tokio::test]
async fn an_upload_survives_a_line_that_breaks() {
    let test = "an_upload_survives_a_line_that_breaks";
    let Some(registry) = DebianRegistry::start(test).await else { return };
    let line = BreakingLine::to(&registry.host, 700_000, 2).await;
    let layer = content(3_500_000);
    let digest = upload(&repository(&line.host, "a/b"), &layer).await;
    assert_eq!(line.breaks_left(), 0);
    assert_eq!(download(&repository(&registry.host, "a/b"), digest, layer.len()).await, layer);
}

#[tokio::test]
async fn what_it_does_not_have_is_told_in_dockers_words() {
    let test = "what_it_does_not_have_is_told_in_dockers_words";
    let Some(registry) = DebianRegistry::start(test).await else { return };
    let there = repository(&registry.host, "a/b");
    let error = there.manifest(&Selector::Tag("latest".to_owned())).await.unwrap_err();
    let words =
        format!("manifest for {}/a/b:latest not found: manifest unknown: manifest unknown", registry.host);
    assert_eq!((error.kind, error.message), (RegistryErrorKind::NotFound, words));
    let error = there.tags().await.unwrap_err();
    assert_eq!(error.kind, RegistryErrorKind::NotFound);
    assert!(
        error.message.starts_with(&format!("repository {}/a/b not found: name unknown", registry.host)),
        "{error}"
    );
}
