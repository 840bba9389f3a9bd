//! What clients ask of registries without pulling or pushing: manifests, logins, searches.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::api::tests::TestDaemon;
use crate::image::Digest;
use crate::registry::test_server::{Access, PASSWORD, Reply, Setup, TestRegistry, USERNAME};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

async fn protected() -> (TestRegistry, TestDaemon) {
    let registry = TestRegistry::with(Setup { access: Access::Password, ..Setup::default() }).await;
    let daemon = TestDaemon::with_registries(registry.settings()).await;
    (registry, daemon)
}

/// As a client that has logged in asks.
async fn get_as_user(daemon: &TestDaemon, path: &str) -> (StatusCode, axum::http::HeaderMap, Bytes) {
    let auth = URL_SAFE.encode(json!({"username": USERNAME, "password": PASSWORD}).to_string());
    let request = axum::http::Request::get(path).header("x-registry-auth", auth).body(Body::empty()).unwrap();
    let (head, body) = daemon.api.answer(request).await.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

fn add_image(registry: &TestRegistry, path: &str, tag: &str, architecture: &str) -> (Digest, String) {
    let config = json!({"os": "linux", "architecture": architecture, "rootfs": {}}).to_string();
    let digest = registry.add_blob(path, config.clone());
    let config = json!({"mediaType": CONFIG, "digest": digest, "size": config.len()});
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).to_string();
    (registry.add_manifest(path, tag, MANIFEST, manifest.clone()), manifest)
}

#[tokio::test]
async fn a_manifest_is_for_the_platform_of_its_configuration() {
    let (registry, daemon) = protected().await;
    let (digest, manifest) = add_image(&registry, "team/a", "1", "arm64");
    let path = format!("/distribution/{}/team/a:1", registry.host());
    let (status, _, body) = get_as_user(&daemon, &format!("{path}/json")).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let expected = json!({
        "Descriptor": {"mediaType": MANIFEST, "digest": digest.to_string(), "size": manifest.len()},
        "Platforms": [{"os": "linux", "architecture": "arm64"}],
    });
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);

    let (status, headers, body) = get_as_user(&daemon, &format!("{path}/manifest")).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, manifest.as_bytes()));
    assert_eq!(headers["content-type"], MANIFEST);
    assert_eq!(headers["docker-content-digest"], digest.to_string());
}

#[tokio::test]
async fn an_index_is_for_the_platforms_that_it_names() {
    let (registry, daemon) = protected().await;
    let entry = |architecture: &str, variant: Option<&str>| {
        let mut platform = json!({"os": "linux", "architecture": architecture});
        if let Some(variant) = variant {
            platform["variant"] = variant.into();
        }
        json!({"mediaType": MANIFEST, "digest": Digest::of(b"x"), "size": 1, "platform": platform})
    };
    let entries = [entry("amd64", None), entry("arm", Some("v7"))];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    registry.add_manifest("a", "1", INDEX, index);
    let (_, _, body) = get_as_user(&daemon, &format!("/distribution/{}/a:1/json", registry.host())).await;
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(reply["Descriptor"]["mediaType"], INDEX);
    assert_eq!(reply["Platforms"][1], json!({"os": "linux", "architecture": "arm", "variant": "v7"}));
}

#[tokio::test]
async fn who_is_not_let_in_and_what_is_not_there_are_told_apart() {
    let (registry, daemon) = protected().await;
    let path = format!("/distribution/{}/a:1/json", registry.host());
    let (status, reply) = daemon.get(&path).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{reply}");
    let (status, _, body) = get_as_user(&daemon, &path).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body:?}");
    let request = axum::http::Request::get(&path).header("x-registry-auth", "%").body(Body::empty()).unwrap();
    assert_eq!(daemon.api.answer(request).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_configuration_that_is_another_is_refused() {
    let registry = TestRegistry::start().await;
    let daemon = TestDaemon::with_registries(registry.settings()).await;
    add_image(&registry, "a", "1", "arm64");
    // As long as the real one.
    let config = json!({"os": "linux", "architecture": "amd46", "rootfs": {}}).to_string();
    let lie =
        Reply::Answer(StatusCode::OK, vec![("content-length", config.len().to_string())], config.into());
    registry.once(Method::GET, "/blobs/", lie);
    let (status, reply) = daemon.get(&format!("/distribution/{}/a:1/json", registry.host())).await;
    assert!(
        status.is_client_error() && reply["message"].as_str().unwrap().contains("another digest"),
        "{reply}"
    );
}

#[tokio::test]
async fn a_login_is_checked_at_its_registry() {
    let (registry, daemon) = protected().await;
    let login = |password: &str| json!({"username": USERNAME, "password": password, "serveraddress": registry.host()});
    let (status, reply) = daemon.ask(Method::POST, "/auth", Some(login(PASSWORD))).await;
    assert_eq!((status, reply), (StatusCode::OK, json!({"Status": "Login Succeeded", "IdentityToken": ""})));
    let (status, reply) = daemon.ask(Method::POST, "/auth", Some(login("wrong"))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(reply["message"].as_str().unwrap().contains(registry.host()), "{reply}");
}

#[tokio::test]
async fn a_search_is_filtered_here() {
    let registry = TestRegistry::start().await;
    let daemon = TestDaemon::with_registries(registry.settings()).await;
    let found = json!({"results": [
        {"name": "box", "description": null, "star_count": 9, "is_official": true},
        {"name": "me/box", "description": "mine", "star_count": 1},
    ]});
    for _ in 0..2 {
        let headers = vec![("content-type", "application/json".to_owned())];
        registry.once(
            Method::GET,
            "/v1/search",
            Reply::Answer(StatusCode::OK, headers, found.to_string().into()),
        );
    }
    let (status, reply) = daemon.get("/images/search?term=box&limit=7").await;
    assert_eq!((status, reply.as_array().unwrap().len()), (StatusCode::OK, 2));
    let official = json!({"star_count": 9, "is_official": true, "name": "box", "is_automated": false, "description": ""});
    assert_eq!(reply[0], official);
    assert!(
        registry.seen().iter().any(|seen| seen.path.contains("n=7")),
        "the limit is the registry's to keep"
    );
    let (_, reply) = daemon.get("/images/search?term=box&filters=%7B%22stars%22%3A%5B%222%22%5D%7D").await;
    assert_eq!(reply, json!([official]));
    assert_eq!(daemon.get("/images/search").await.0, StatusCode::BAD_REQUEST);
}
