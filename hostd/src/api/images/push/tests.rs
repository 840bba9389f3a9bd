//! Pushes through the whole router, to registries in this process: what arrives there, what the client is told, and
//! what is known here afterwards.

use std::io::Write;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::what;
use crate::api::tests::TestDaemon;
use crate::image::Digest;
use crate::registry::test_server::{Reply, TestRegistry, error_body};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn the_tag_is_the_parameters_and_a_digest_is_refused() {
    let tag = |name, tag| what(name, tag).map(|(name, tag)| (name.repository.familiar().to_owned(), tag));
    let a = || "r:5000/a".to_owned();
    assert_eq!(tag("r:5000/a", Some("1")), Ok((a(), Some("1".to_owned()))));
    assert_eq!(tag("r:5000/a:2", Some("1")), Ok((a(), Some("1".to_owned()))));
    assert_eq!(tag("r:5000/a:2", None), Ok((a(), None)));
    let digest = format!("sha256:{}", "0".repeat(64));
    for (name, tag) in [(format!("r:5000/a@{digest}"), None), (a(), Some(digest.as_str()))] {
        assert_eq!(what(&name, tag).unwrap_err().message, "cannot push a digest reference");
    }
    assert!(what("r:5000/a", Some("-")).unwrap_err().message.starts_with("invalid reference format"));
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn config(architecture: &str, layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    json!({"architecture": architecture, "os": "linux", "rootfs": rootfs}).to_string().into_bytes()
}

/// As `docker save` wrote it: an image of two layers.
fn archive(name: &str) -> Vec<u8> {
    let (base, top) = (tar(&[("base", b"1")]), tar(&[("top", b"2")]));
    let manifest = json!([{"Config": "c", "RepoTags": [name], "Layers": ["base.tar", "top.tar"]}]);
    tar(&[
        ("c", &config("amd64", &[&base, &top])),
        ("base.tar", &base),
        ("top.tar", &top),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])
}

/// Puts an image of one compressed layer into a registry. Gives its manifest, spaced as nobody else would.
fn publish(registry: &TestRegistry, path: &str, tag: &str, architecture: &str) -> (Digest, Vec<u8>) {
    let layer = tar(&[("file", architecture.as_bytes())]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).unwrap();
    let blob = gzip.finish().unwrap();
    let config = config(architecture, &[&layer]);
    let manifest = format!(
        "{{  \"schemaVersion\":2,\n\"mediaType\":\"{OCI_MANIFEST}\",\n \"config\": {{\"mediaType\":\
         \"application/vnd.oci.image.config.v1+json\",\"digest\":\"{}\",\"size\":{}}},\n\"layers\":[{{\"mediaType\":\
         \"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"{}\",\"size\":{}}}]}}\n",
        registry.add_blob(path, config.clone()),
        config.len(),
        registry.add_blob(path, blob.clone()),
        blob.len()
    );
    (registry.add_manifest(path, tag, OCI_MANIFEST, manifest.clone()), manifest.into_bytes())
}

fn index(entries: &[(&(Digest, Vec<u8>), &str)]) -> Vec<u8> {
    let manifests = entries.iter().map(|((digest, manifest), architecture)| {
        json!({"mediaType": OCI_MANIFEST, "digest": digest.to_string(), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}})
    });
    let manifests: Vec<_> = manifests.collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string().into_bytes()
}

/// A daemon and what it said.
struct Pusher {
    daemon: TestDaemon,
}

impl Pusher {
    async fn of(registry: &TestRegistry) -> Self {
        Self { daemon: TestDaemon::with_registries(registry.settings()).await }
    }

    async fn loaded(registry: &TestRegistry, name: &str) -> Self {
        let pusher = Self::of(registry).await;
        let (status, said) = pusher.send("/images/load", Body::from(archive(name))).await;
        assert_eq!(status, StatusCode::OK, "{said:?}");
        pusher
    }

    async fn post(&self, path: &str) -> (StatusCode, Vec<Value>) {
        self.send(path, Body::empty()).await
    }

    async fn send(&self, path: &str, body: Body) -> (StatusCode, Vec<Value>) {
        let request = axum::http::Request::post(path).body(body).unwrap();
        let response = self.daemon.api.answer(request).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        (status, lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
    }

    /// What was said of the push: `ID: STATUS` or `STATUS`, without bars.
    async fn push(&self, name: &str, query: &str) -> Vec<String> {
        let (status, objects) = self.post(&format!("/images/{name}/push{query}")).await;
        assert_eq!(status, StatusCode::OK, "{objects:?}");
        let said = objects.iter().filter(|object| object.get("progress").is_none());
        let said = said.filter_map(|object| match (object["id"].as_str(), object["status"].as_str()) {
            (Some(id), Some(status)) => Some(format!("{id}: {status}")),
            (None, Some(status)) => Some(status.to_owned()),
            _ => object["error"].as_str().map(|error| format!("error: {error}")),
        });
        said.collect()
    }

    async fn pull(&self, name: &str, query: &str) {
        let (status, objects) = self.post(&format!("/images/create?fromImage={name}{query}")).await;
        let failed = objects.iter().any(|object| object.get("error").is_some());
        assert!(status == StatusCode::OK && !failed, "{objects:?}");
    }

    async fn tag(&self, source: &str, repository: &str, tag: &str) {
        let (status, _) = self.post(&format!("/images/{source}/tag?repo={repository}&tag={tag}")).await;
        assert_eq!(status, StatusCode::CREATED);
    }

    async fn repo_digests(&self, name: &str) -> Value {
        self.daemon.get(&format!("/images/{name}/json")).await.1["RepoDigests"].clone()
    }
}

fn uploads(registry: &TestRegistry) -> usize {
    registry.count(&Method::PUT, "/blobs/uploads/")
}

/// Waits for something that is soon to happen.
async fn until(happened: impl Fn() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it should have happened by now");
}

#[tokio::test]
async fn a_loaded_image_arrives_whole_and_is_known_by_its_digest() {
    let registry = TestRegistry::start().await;
    let name = format!("{}/team/a", registry.host());
    let pusher = Pusher::loaded(&registry, &format!("{name}:1")).await;
    let said = pusher.push(&name, "?tag=1").await;
    let (_, manifest) = registry.manifest("team/a", "1").unwrap();
    let digest = Digest::of(&manifest);
    assert_eq!(said[0], format!("The push refers to repository [{name}]"));
    assert_eq!(said[said.len() - 1], format!("1: digest: {digest} size: {}", manifest.len()));
    let layers = [tar(&[("top", b"2")]), tar(&[("base", b"1")])].map(|layer| Digest::of(&layer).short());
    assert_eq!(said[1..3], layers.clone().map(|id| format!("{id}: Preparing")));
    for id in &layers {
        assert!(said.contains(&format!("{id}: Pushed")), "{said:?}");
    }
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let parts = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
    for part in parts {
        let digest = part["digest"].as_str().unwrap().parse().unwrap();
        assert!(registry.blob("team/a", &digest).is_some(), "{part}");
    }
    assert_eq!(pusher.repo_digests(&format!("{name}:1")).await, json!([format!("{name}@{digest}")]));

    let again = pusher.push(&name, "?tag=1").await;
    assert!(again.contains(&format!("{}: Layer already exists", layers[0])), "{again:?}");
    assert_eq!((again.last(), uploads(&registry)), (said.last(), 3));
}

#[tokio::test]
async fn a_pulled_image_has_the_same_digest_at_another_registry() {
    let (from, to) = (TestRegistry::start().await, TestRegistry::start().await);
    let (digest, manifest) = publish(&from, "a", "1", "amd64");
    let pusher = Pusher::of(&to).await;
    pusher.pull(&format!("{}/a", from.host()), "&tag=1").await;
    let name = format!("{}/b/c", to.host());
    pusher.tag(&format!("{}/a:1", from.host()), &name, "2").await;
    let said = pusher.push(&name, "?tag=2").await;
    assert_eq!(said.last().unwrap(), &format!("2: digest: {digest} size: {}", manifest.len()));
    let (media_type, stored) = to.manifest("b/c", "2").unwrap();
    assert_eq!((media_type.as_str(), &stored[..]), (OCI_MANIFEST, &manifest[..]));
}

#[tokio::test]
async fn layers_are_mounted_from_where_the_image_is_known() {
    let registry = TestRegistry::start().await;
    publish(&registry, "origin/a", "1", "amd64");
    let pusher = Pusher::of(&registry).await;
    pusher.pull(&format!("{}/origin/a", registry.host()), "&tag=1").await;
    let name = format!("{}/copy", registry.host());
    pusher.tag(&format!("{}/origin/a:1", registry.host()), &name, "1").await;
    let said = pusher.push(&name, "?tag=1").await;
    assert!(said.iter().any(|line| line.ends_with(": Mounted from origin/a")), "{said:?}");
    assert_eq!(uploads(&registry), 1, "only the configuration travels");
}

#[tokio::test]
async fn an_index_goes_as_it_is_if_all_of_it_is_here_and_otherwise_the_image_goes_alone() {
    let (from, to) = (TestRegistry::start().await, TestRegistry::start().await);
    let amd64 = publish(&from, "a", "amd64", "amd64");
    let arm64 = publish(&from, "a", "arm64", "arm64");
    let whole = from.add_manifest("a", "whole", OCI_INDEX, index(&[(&amd64, "amd64")]));
    let part = from.add_manifest("a", "part", OCI_INDEX, index(&[(&amd64, "amd64"), (&arm64, "arm64")]));
    let pusher = Pusher::of(&to).await;
    let name = format!("{}/b", to.host());
    for tag in ["whole", "part"] {
        pusher.pull(&format!("{}/a", from.host()), &format!("&tag={tag}")).await;
        pusher.tag(&format!("{}/a:{tag}", from.host()), &name, tag).await;
    }
    let said = pusher.push(&name, "?tag=whole").await;
    assert!(said.last().unwrap().starts_with(&format!("whole: digest: {whole}")), "{said:?}");
    assert!(to.manifest("b", &amd64.0.to_string()).is_some(), "the index leads somewhere");

    let (_, objects) = pusher.post(&format!("/images/{name}/push?tag=part")).await;
    let note = objects.iter().find(|object| object["aux"]["manifestPushedInsteadOfIndex"] == true).unwrap();
    assert_eq!(note["aux"]["originalIndex"]["digest"], part.to_string());
    assert_eq!(note["aux"]["selectedManifest"]["digest"], amd64.0.to_string());
    assert_eq!(to.manifest("b", "part").unwrap().1, amd64.1);
}

#[tokio::test]
async fn a_platform_is_pushed_alone_or_said_to_be_missing() {
    let (from, to) = (TestRegistry::start().await, TestRegistry::start().await);
    let amd64 = publish(&from, "a", "amd64", "amd64");
    from.add_manifest("a", "1", OCI_INDEX, index(&[(&amd64, "amd64")]));
    let pusher = Pusher::of(&to).await;
    pusher.pull(&format!("{}/a", from.host()), "&tag=1").await;
    let name = format!("{}/b", to.host());
    pusher.tag(&format!("{}/a:1", from.host()), &name, "1").await;
    pusher
        .push(&name, "?tag=1&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22amd64%22%7D")
        .await;
    assert_eq!(to.manifest("b", "1").unwrap().1, amd64.1);
    let (status, reply) = pusher.post(&format!("/images/{name}/push?tag=1&platform=linux/arm64")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let message = reply[0]["message"].as_str().unwrap();
    assert!(message.ends_with("does not provide the specified platform (linux/arm64)"), "{message}");
}

#[tokio::test]
async fn all_tags_go_and_nothing_goes_without_one() {
    let registry = TestRegistry::start().await;
    let name = format!("{}/a", registry.host());
    let pusher = Pusher::loaded(&registry, &format!("{name}:1")).await;
    pusher.tag(&format!("{name}:1"), &name, "2").await;
    let said = pusher.push(&name, "").await;
    for tag in ["1", "2"] {
        assert!(registry.manifest("a", tag).is_some());
        assert!(said.iter().any(|line| line.starts_with(&format!("{tag}: digest: sha256:"))), "{said:?}");
    }
    for query in ["", "?tag=3"] {
        let (status, reply) = pusher.post(&format!("/images/{}/nope/push{query}", registry.host())).await;
        let message = reply[0]["message"].as_str().unwrap();
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(message.starts_with("An image does not exist locally with the tag: "), "{message}");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_ends_the_push_and_nothing_is_noted() {
    let registry = TestRegistry::start().await;
    let name = format!("{}/a", registry.host());
    let pusher = Pusher::loaded(&registry, &format!("{name}:1")).await;
    let denied = error_body("DENIED", "requested access to the resource is denied");
    for (method, path) in [(Method::POST, "/blobs/uploads/"), (Method::PUT, "/manifests/")] {
        let headers = vec![("content-type", "application/json".to_owned())];
        registry.once(method, path, Reply::Answer(StatusCode::FORBIDDEN, headers, denied.clone()));
        let said = pusher.push(&name, "?tag=1").await;
        let last = said.last().unwrap();
        assert!(last.starts_with("error: ") && last.contains("denied"), "{said:?}");
        assert_eq!(pusher.repo_digests(&format!("{name}:1")).await, json!([]));
    }
    assert!(registry.manifest("a", "1").is_none());
    assert!(pusher.push(&name, "?tag=1").await.last().unwrap().starts_with("1: digest: "));
}

#[tokio::test]
async fn two_pushes_of_one_image_send_each_blob_once() {
    let registry = TestRegistry::start().await;
    let name = format!("{}/a", registry.host());
    let pusher = Pusher::loaded(&registry, &format!("{name}:1")).await;
    let (one, other) = tokio::join!(pusher.push(&name, "?tag=1"), pusher.push(&name, "?tag=1"));
    assert_eq!((one.last(), uploads(&registry)), (other.last(), 3), "two layers and a configuration");
    assert_eq!(pusher.daemon.engine.pushes_under_way(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_push() {
    let registry = TestRegistry::start().await;
    let name = format!("{}/a", registry.host());
    let pusher = Pusher::loaded(&registry, &format!("{name}:1")).await;
    for _ in 0..2 {
        registry.once(Method::HEAD, "/blobs/", Reply::Silence);
    }
    let path = format!("/images/{name}/push?tag=1");
    let request = axum::http::Request::post(path).body(Body::empty()).unwrap();
    let response = pusher.daemon.api.answer(request).await;
    until(|| registry.count(&Method::HEAD, "/blobs/") == 2).await;
    assert_eq!(pusher.daemon.engine.pushes_under_way(), 2);
    drop(response);
    until(|| pusher.daemon.engine.pushes_under_way() == 0).await;
    assert!(registry.manifest("a", "1").is_none());
}

#[tokio::test]
async fn an_image_that_is_removed_meanwhile_still_arrives() {
    let registry = TestRegistry::start().await;
    let name = format!("{}/a", registry.host());
    let pusher = Pusher::loaded(&registry, &format!("{name}:1")).await;
    // The registry's first answer breaks off; by the time it is asked again the image is gone.
    registry.once(Method::HEAD, "/blobs/", Reply::Silence);
    let removing = async {
        until(|| registry.count(&Method::HEAD, "/blobs/") > 0).await;
        pusher.daemon.ask(Method::DELETE, &format!("/images/{name}:1"), None).await
    };
    let (said, (status, removed)) = tokio::join!(pusher.push(&name, "?tag=1"), removing);
    assert_eq!(status, StatusCode::OK, "{removed}");
    assert!(said.last().unwrap().starts_with("1: digest: "), "{said:?}");
    assert!(registry.manifest("a", "1").is_some());
    assert_eq!(pusher.daemon.get("/images/json").await.1, json!([]), "and it does not come back");
}
