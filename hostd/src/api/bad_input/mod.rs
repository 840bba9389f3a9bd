//! What clients get wrong: each mistake is answered with Docker's status and a message that names what was wrong, and leaves
//! nothing behind. Test code, through the whole router; mistakes below the requests are for `server::tests`.

mod random;
mod table;

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;

use super::images::tests::with_images;
use super::tests::TestDaemon;

/// One that exists and does not run.
const CONTAINER: &str = "web";

/// With an image `one` and the container.
async fn daemon() -> TestDaemon {
    let daemon = with_images(&[("one", 2001, b"1")]).await;
    let body = serde_json::json!({ "Image": "one" });
    let path = format!("/containers/create?name={CONTAINER}");
    let (status, reply) = daemon.ask(Method::POST, &path, Some(body)).await;
    assert_eq!(status, 201, "{reply}");
    daemon
}

/// What a failed request said, by the way it must say it; nothing of one that did not fail, whose answer may be endless.
async fn failure(
    daemon: &TestDaemon,
    method: &Method,
    target: &str,
    content_type: Option<&str>,
    body: impl Into<Body>,
) -> (u16, Option<String>) {
    let mut request = Request::builder().method(method).uri(target);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    let response = daemon.api.answer(request.body(body.into()).unwrap()).await;
    let status = response.status().as_u16();
    if status < 400 || *method == Method::HEAD {
        return (status, None);
    }
    let what = format!("{status} to {method} {target}");
    assert_eq!(response.headers()["content-type"], "application/json", "{what}");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let reply: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = reply["message"].as_str().filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| panic!("{what} has no message: {reply}"));
    (status, Some(message.to_owned()))
}

/// Ids and names in the list, directories on the disk: what a half-made container would add to.
async fn remains(daemon: &TestDaemon) -> (Vec<(Value, Value)>, Vec<std::ffi::OsString>) {
    let (status, list) = daemon.get("/containers/json?all=1").await;
    assert_eq!(status, 200);
    let list = list.as_array().unwrap().iter();
    let listed = list.map(|container| (container["Id"].clone(), container["Names"].clone())).collect();
    let directories = std::fs::read_dir(daemon.containers_root()).unwrap();
    (listed, directories.map(|entry| entry.unwrap().file_name()).collect())
}
