//! Pulls through the whole router, from a registry on loopback that is honest, slow or lies.

mod lies;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::api::tests::TestDaemon;
use crate::image::{Digest, test_files};
use crate::registry::test_server::{Piece, Reply, TestRegistry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A daemon and the registry it pulls from.
struct Story {
    daemon: TestDaemon,
    registry: TestRegistry,
}

/// A layer, plain and as it travels.
#[derive(Clone)]
struct Layer {
    plain: Vec<u8>,
    blob: Vec<u8>,
}

impl Layer {
    /// One file, of bytes that hardly compress.
    fn new(seed: u8, bytes: usize) -> Self {
        let mut state = u32::from(seed) + 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let content: Vec<u8> = (0..bytes).map(|_| next()).collect();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes as u64);
        header.set_mode(0o644);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, format!("file-{seed}"), &content[..]).unwrap();
        let plain = builder.into_inner().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        Self { plain, blob: encoder.finish().unwrap() }
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.blob)
    }

    fn path(&self) -> String {
        format!("/blobs/{}", self.digest())
    }
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()})
}

fn config(architecture: &str, layers: &[Layer]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(&layer.plain)).collect();
    let config = json!({"os": "linux", "architecture": architecture, "config": {"Cmd": ["/x"]},
                        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    config.to_string().into_bytes()
}

impl Story {
    async fn new() -> Self {
        let registry = TestRegistry::start().await;
        let daemon = TestDaemon::with_registries(registry.settings()).await;
        Self { daemon, registry }
    }

    /// Puts configuration and layers into a repository; returns the manifest.
    fn offer_parts(&self, path: &str, architecture: &str, layers: &[Layer]) -> Value {
        let config = config(architecture, layers);
        let blobs: Vec<_> = layers.iter().map(|layer| descriptor(LAYER, &layer.blob)).collect();
        for layer in layers {
            self.registry.add_blob(path, layer.blob.clone());
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
                              "config": descriptor(CONFIG, &config), "layers": blobs});
        self.registry.add_blob(path, config);
        manifest
    }

    /// Offers an image for amd64 under a tag; returns its manifest's digest.
    fn offer(&self, path: &str, tag: &str, layers: &[Layer]) -> Digest {
        let manifest = self.offer_parts(path, "amd64", layers);
        self.registry.add_manifest(path, tag, MANIFEST, manifest.to_string())
    }

    fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.registry.host())
    }

    async fn begin(&self, query: &str) -> Response {
        let uri = format!("/images/create?fromImage={}", self.name(query));
        let request = axum::http::Request::post(uri).body(Body::empty()).unwrap();
        self.daemon.api.answer(request).await
    }

    /// Begins a pull and goes away when the stream has said these words.
    async fn leave_after(&self, query: &str, words: &str) {
        let mut stream = self.begin(query).await.into_body();
        let mut heard = String::new();
        while !heard.contains(words) {
            let frame = stream.frame().await.unwrap_or_else(|| panic!("no {words:?} in {heard}")).unwrap();
            heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// Pulls; returns the objects of the stream, or the one of the refusal.
    async fn pull(&self, query: &str) -> (StatusCode, Vec<Value>) {
        let response = self.begin(query).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<_, _>>();
        (status, lines.unwrap())
    }

    /// Pulls what can be pulled; returns each object's status without the bars, with its id in front.
    async fn pulled(&self, query: &str) -> Vec<String> {
        let (status, objects) = self.pull(query).await;
        assert_eq!(status, StatusCode::OK, "{objects:?}");
        let line = |object: &Value| {
            let status = object["status"].as_str().unwrap_or_else(|| panic!("{object}")).to_owned();
            object["id"].as_str().map_or(status.clone(), |id| format!("{id}: {status}"))
        };
        let is_bar = |object: &&Value| object.get("progress").is_none();
        objects.iter().filter(is_bar).map(line).collect()
    }

    /// The message of a pull that fails, whenever it does.
    async fn refused(&self, query: &str) -> (StatusCode, String) {
        let (status, objects) = self.pull(query).await;
        let last = objects.last().unwrap();
        let message = last.get("message").unwrap_or(&last["errorDetail"]["message"]);
        (status, message.as_str().unwrap_or_else(|| panic!("{objects:?}")).to_owned())
    }

    /// What the store's directory holds: to tell whether anything changed.
    fn files(&self) -> BTreeMap<PathBuf, u64> {
        test_files::below(&self.daemon.image_root())
    }

    fn image(&self, name: &str) -> crate::image::Image {
        self.daemon.engine.images().resolve(&self.name(name)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_arrives_and_is_told_as_docker_tells_it() {
    let story = Story::new().await;
    let layers = [Layer::new(1, 900_000), Layer::new(2, 5000)];
    let manifest = story.offer("team/app", "1", &layers);
    let lines = story.pulled("team/app&tag=1").await;
    let ids = layers.each_ref().map(|layer| layer.digest().short());
    assert_eq!(lines[0], "1: Pulling from team/app");
    assert_eq!(lines[1..3], ids.each_ref().map(|id| format!("{id}: Pulling fs layer")));
    let name = story.name("team/app:1");
    let end = [format!("Digest: {manifest}"), format!("Status: Downloaded newer image for {name}")];
    assert_eq!(lines[lines.len() - 2..], end);
    for id in &ids {
        let told: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&format!("{id}: "))).collect();
        let expected = ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"];
        assert_eq!(told, expected);
    }
    let image = story.image("team/app:1");
    assert_eq!(
        (image.names, image.repo_digests),
        (vec![name.clone()], vec![story.name(&format!("team/app@{manifest}"))])
    );
    let asked = story.registry.seen().len();
    let again = story.pulled("team/app&tag=1").await;
    assert_eq!(again.last().unwrap(), &format!("Status: Image is up to date for {name}"));
    assert!(again.contains(&format!("{}: Already exists", ids[0])));
    assert_eq!(story.registry.count(&Method::GET, "/blobs/"), 3, "nothing is fetched again");
    assert!(story.registry.seen().len() <= asked + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bars_say_how_much_of_how_much() {
    let story = Story::new().await;
    let layer = Layer::new(1, 600_000);
    let total = layer.blob.len();
    story.offer("a", "1", std::slice::from_ref(&layer));
    // The line stands still for longer than a bar does.
    let pieces = vec![Piece::Bytes(Bytes::from(layer.blob[..400_000].to_vec())), Piece::Stall];
    let headers = vec![("content-length", total.to_string())];
    story.registry.once(Method::GET, &layer.path(), Reply::Pieces(StatusCode::OK, headers, pieces));
    let (_, objects) = story.pull("a&tag=1").await;
    let bar = objects.iter().find(|object| object["status"] == "Downloading").expect("a bar");
    assert_eq!(bar["progressDetail"]["total"], total);
    let current = bar["progressDetail"]["current"].as_u64().unwrap();
    assert!((1..=400_000).contains(&current), "{bar}");
    assert!(bar["progress"].as_str().unwrap().starts_with('['), "{bar}");
    assert!(objects.iter().any(|object| object["status"] == "Extracting"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_leads_to_the_platforms_image_and_is_what_the_name_stands_for() {
    let story = Story::new().await;
    let mut entries = Vec::new();
    for (architecture, seed) in [("arm64", 1), ("amd64", 2)] {
        let manifest = story.offer_parts("a", architecture, &[Layer::new(seed, 1000)]).to_string();
        let digest = Digest::of(manifest.as_bytes()).to_string();
        let mut entry = descriptor(MANIFEST, manifest.as_bytes());
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
        story.registry.add_manifest("a", &digest, MANIFEST, manifest);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let digest = story.registry.add_manifest("a", "1", INDEX, index.clone());
    story.pulled("a&tag=1").await;
    let ours = story.image("a:1");
    assert_eq!(
        (ours.architecture.as_str(), ours.repo_digests),
        ("amd64", vec![story.name(&format!("a@{digest}"))])
    );
    let target = story.daemon.engine.images().target(&Reference::parse(&story.name("a:1")).unwrap()).unwrap();
    assert_eq!(target.unwrap().content, index.as_bytes());
    let lines = story.pulled(&format!("a&tag={digest}&platform=linux/arm64")).await;
    assert_eq!(lines[0], format!("{digest}: Pulling from a"));
    assert_eq!(story.image(&format!("a@{digest}")).architecture, "arm64");
    let (status, message) = story.refused("a&tag=1&platform=linux/s390x").await;
    let expected = "no matching manifest for linux/s390x in the manifest list entries";
    assert_eq!((status, message.as_str()), (StatusCode::NOT_FOUND, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_image_for_another_platform_comes_with_a_warning() {
    let story = Story::new().await;
    story.offer("a", "1", &[Layer::new(1, 1000)]);
    let lines = story.pulled("a&tag=1&platform=linux/arm64").await;
    let warning = format!(
        "WARNING: image with reference {} was found but its platform (linux/amd64) does not match the specified \
         platform (linux/arm64)",
        story.name("a:1")
    );
    assert!(lines.contains(&warning), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tag_every_tag_comes_and_shared_layers_once() {
    let story = Story::new().await;
    let base = Layer::new(1, 2000);
    for (tag, seed) in [("a", 2), ("b", 3), ("c", 4)] {
        story.offer("x", tag, &[base.clone(), Layer::new(seed, 1000)]);
    }
    let lines = story.pulled("x").await;
    let found: Vec<_> = lines.iter().filter(|line| line.ends_with("Pulling from x")).collect();
    assert_eq!(found, ["a: Pulling from x", "b: Pulling from x", "c: Pulling from x"]);
    assert_eq!(lines.last().unwrap(), &format!("Status: Downloaded newer image for {}", story.name("x")));
    assert_eq!(story.registry.count(&Method::GET, &base.path()), 1);
    assert_eq!(story.daemon.engine.images().list().unwrap().len(), 3);
}

/// The registry says part of the blob and then nothing for a while; what is left is asked for as a range.
fn stall_once(story: &Story, layer: &Layer) {
    let pieces = vec![Piece::Bytes(Bytes::from(layer.blob[..1000].to_vec())), Piece::Stall];
    let headers = vec![("content-length", layer.blob.len().to_string())];
    story.registry.once(Method::GET, &layer.path(), Reply::Pieces(StatusCode::OK, headers, pieces));
}

fn fetches_from_the_start(story: &Story, layer: &Layer) -> usize {
    let seen = story.registry.seen();
    let whole = |seen: &&crate::registry::test_server::Seen| {
        seen.path.contains(&layer.path()) && !seen.headers.contains_key("range")
    };
    seen.iter().filter(whole).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_of_a_layer_fetch_it_once() {
    let story = Story::new().await;
    let layer = Layer::new(1, 50_000);
    story.offer("a", "1", std::slice::from_ref(&layer));
    story.offer("b", "1", &[layer.clone(), Layer::new(2, 100)]);
    stall_once(&story, &layer);
    let (first, second) = tokio::join!(story.pulled("a&tag=1"), story.pulled("b&tag=1"));
    for lines in [first, second] {
        assert!(lines.contains(&format!("{}: Pull complete", layer.digest().short())), "{lines:?}");
    }
    assert_eq!(fetches_from_the_start(&story, &layer), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_the_layer_to_those_who_wait_for_it() {
    let story = Story::new().await;
    let layer = Layer::new(1, 50_000);
    story.offer("a", "1", std::slice::from_ref(&layer));
    stall_once(&story, &layer);
    let first = story.begin("a&tag=1").await;
    while story.registry.count(&Method::GET, &layer.path()) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = story.pulled("a&tag=1");
    let leave = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
    };
    let (lines, ()) = tokio::join!(second, leave);
    assert!(lines.last().unwrap().starts_with("Status: Downloaded newer image"), "{lines:?}");
    assert_eq!(fetches_from_the_start(&story, &layer), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_who_waits_a_pull_stops_and_leaves_nothing() {
    let story = Story::new().await;
    let layer = Layer::new(1, 50_000);
    story.offer("a", "1", std::slice::from_ref(&layer));
    let before = story.files();
    for _ in 0..20 {
        stall_once(&story, &layer);
    }
    let client = story.begin("a&tag=1").await;
    while story.registry.count(&Method::GET, &layer.path()) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    let stopped = async {
        while story.files() != before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("it stops");
    assert!(story.daemon.engine.images().list().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joined_a_layer_that_fails_fetches_it_from_its_own_repository() {
    let story = Story::new().await;
    let layer = Layer::new(1, 50_000);
    let manifest = story.offer_parts("good", "amd64", std::slice::from_ref(&layer)).to_string();
    story.registry.add_manifest("good", "1", MANIFEST, manifest.clone());
    story.registry.add_manifest("bad", "1", MANIFEST, manifest);
    story.registry.add_blob("bad", config("amd64", std::slice::from_ref(&layer)));
    // The bad repository takes its time to say that it does not have the layer.
    let path = format!("/v2/bad{}", layer.path());
    story.registry.once(Method::GET, &path, Reply::Silence);
    let good = async {
        while story.registry.count(&Method::GET, &path) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        story.pulled("good&tag=1").await
    };
    let (bad, good) = tokio::join!(story.refused("bad&tag=1"), good);
    assert!(bad.1.contains("bad"), "{bad:?}");
    assert!(good.last().unwrap().starts_with("Status: Downloaded newer image"), "{good:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_pull_has_completed_serves_the_next() {
    let story = Story::new().await;
    let (whole, broken) = (Layer::new(1, 20_000), Layer::new(2, 20_000));
    story.offer("a", "1", &[whole.clone(), broken.clone()]);
    for _ in 0..10 {
        story.registry.once(Method::GET, &broken.path(), Reply::Silence);
    }
    let complete = format!(r#""Pull complete","progressDetail":{{}},"id":"{}""#, whole.digest().short());
    story.leave_after("a&tag=1", &complete).await;
    let next = Story { registry: TestRegistry::start().await, ..story };
    next.offer("a", "1", &[whole.clone(), broken]);
    let lines = next.pulled("a&tag=1").await;
    assert!(lines.contains(&format!("{}: Already exists", whole.digest().short())), "{lines:?}");
    assert_eq!(next.registry.count(&Method::GET, &whole.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_nobody_has_is_not_found_before_anything_is_told() {
    let story = Story::new().await;
    let (status, message) = story.refused("none&tag=1").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{message}");
    assert!(message.contains("none"), "{message}");
}

fn shown(name: &str, tag: Option<&str>) -> String {
    match target(name, tag).unwrap() {
        PullTarget::One(reference) => reference.familiar(),
        PullTarget::AllTags(repository) => format!("all of {}", repository.familiar()),
    }
}

#[test]
fn name_and_tag_mean_what_they_mean_to_docker() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (name, tag, expected) in [
        ("busybox", Some("1.36"), "busybox:1.36"),
        ("busybox", None, "all of busybox"),
        ("busybox:1", None, "busybox:1"),
        ("busybox:1", Some("2"), "busybox:2"),
        ("docker.io/library/busybox", Some("latest"), "busybox:latest"),
        ("localhost:5000/a", None, "all of localhost:5000/a"),
        ("localhost:5000/a", Some(&digest), &format!("localhost:5000/a@{digest}")),
        ("a", Some(&digest), &format!("a@{digest}")),
        (&format!("a@{digest}"), None, &format!("a@{digest}")),
    ] {
        assert_eq!(shown(name, tag), expected);
    }
    for (name, tag) in [("BusyBox", None), ("a", Some("sha256:1")), ("a", Some("a b")), ("", Some("x"))] {
        let error = target(name, tag).unwrap_err();
        assert_eq!(error.status, 400);
        assert!(error.message.starts_with("invalid reference format"), "{}", error.message);
    }
}

#[test]
fn the_first_line_names_the_repository_without_its_registry() {
    for (name, expected) in [
        ("busybox:1.36", Report::of("1.36", "Pulling from library/busybox")),
        ("localhost:5000/a/b:c", Report::of("c", "Pulling from a/b")),
    ] {
        assert_eq!(reports(PullStep::Found(Reference::parse(name).unwrap())), [expected]);
    }
    let finished = PullStep::Finished { shown: "busybox:1.36".into(), updated: false };
    assert_eq!(reports(finished), [Report::status("Status: Image is up to date for busybox:1.36")]);
}
