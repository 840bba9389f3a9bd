//! Registries that lie about an image: each lie is refused by its reason, and leaves nothing.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{CONFIG, INDEX, Layer, MANIFEST, Story, config, descriptor};
use crate::registry::test_server::Reply;

/// What a lie changes of an honest image's manifest, whose one layer this is.
type Lie = fn(&Story, &Layer, &mut Value);

const LIES: &[(&str, Lie)] = &[
    ("its blob's digest is", |story, layer, _| {
        let mut other = layer.blob.clone();
        *other.last_mut().unwrap() ^= 1;
        story.registry.once(Method::GET, &layer.path(), Reply::Answer(StatusCode::OK, vec![], other.into()));
    }),
    ("its uncompressed digest is", |story, _, manifest| {
        let other = config("amd64", &[Layer::new(99, 10)]);
        manifest["config"] = descriptor(CONFIG, &other);
        story.registry.add_blob("bad", other);
    }),
    ("layers length mismatch: expected 2, got 1", |story, layer, manifest| {
        let other = config("amd64", &[layer.clone(), layer.clone()]);
        manifest["config"] = descriptor(CONFIG, &other);
        story.registry.add_blob("bad", other);
    }),
    ("its configuration: ", |story, _, manifest| {
        manifest["config"] = descriptor(CONFIG, b"<html>");
        story.registry.add_blob("bad", &b"<html>"[..]);
    }),
    ("it is made for windows, not for linux", |story, layer, manifest| {
        let text = String::from_utf8(config("amd64", std::slice::from_ref(layer))).unwrap();
        let other = text.replace("\"linux\"", "\"windows\"").into_bytes();
        manifest["config"] = descriptor(CONFIG, &other);
        story.registry.add_blob("bad", other);
    }),
    ("its configuration has more than 4 MiB", |_, _, manifest| manifest["config"]["size"] = json!(100 << 20)),
    ("unsupported media type \"application/x\"", |_, _, manifest| {
        manifest["layers"][0]["mediaType"] = json!("application/x");
    }),
    ("a layer at URLs of its own", |_, _, manifest| {
        manifest["layers"][0]["urls"] = json!(["http://127.0.0.1/layer"]);
    }),
    ("sizes that no file can have", |_, _, manifest| manifest["layers"][0]["size"] = json!(u64::MAX)),
    ("more than 512 layers", |_, _, manifest| {
        manifest["layers"] = json!(vec![manifest["layers"][0].clone(); 513]);
    }),
    ("encountered remote", |_, _, manifest| {
        manifest["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    }),
    ("says of itself that it is", |_, _, manifest| manifest["mediaType"] = json!(INDEX)),
    ("", |_, layer, manifest| manifest["layers"][0]["size"] = json!(layer.blob.len() - 1)),
    ("", |_, layer, manifest| manifest["layers"][0]["size"] = json!(layer.blob.len() + 1)),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_is_refused_and_the_store_stays_as_it_was() {
    for (number, (reason, lie)) in LIES.iter().enumerate() {
        let story = Story::new().await;
        story.offer("good", "1", &[Layer::new(7, 100)]);
        story.pulled("good&tag=1").await;
        let before = story.files();
        let layer = Layer::new(8, 5000);
        let mut manifest = story.offer_parts("bad", "amd64", std::slice::from_ref(&layer));
        lie(&story, &layer, &mut manifest);
        story.registry.add_manifest("bad", "1", MANIFEST, manifest.to_string());
        let (_, message) = story.refused("bad&tag=1").await;
        assert!(message.contains(reason) && message.contains("bad"), "{number} {reason}: {message}");
        assert_eq!(story.files(), before, "{number} {reason}: {message}");
        assert_eq!(story.daemon.engine.images().list().unwrap().len(), 1);
    }
}
