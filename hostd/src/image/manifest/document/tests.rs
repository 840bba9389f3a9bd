//! Documents as registries send them, and as liars do.

use serde_json::{Value, json};

use super::*;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn descriptor(media_type: &str, content: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content.as_bytes()).to_string(), "size": content.len()})
}

fn manifest(layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(CONFIG, "c"), "layers": layers})
}

fn parse(sent: &str, document: &Value) -> Result<Document, ManifestError> {
    Document::parse(&MediaType::parse(sent).unwrap(), document.to_string().as_bytes())
}

fn refusal(sent: &str, document: &Value) -> String {
    parse(sent, document).unwrap_err().to_string()
}

fn image(document: &Value) -> Manifest {
    match parse("", document).unwrap() {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => panic!("{index:?}"),
    }
}

#[test]
fn a_document_is_what_its_type_or_else_its_fields_say() {
    let mut document = manifest(&[descriptor(LAYER, "a")]);
    let expected = parse(OCI_MANIFEST, &document).unwrap();
    assert_eq!(parse("text/plain; charset=utf-8", &document).unwrap(), expected);
    assert_eq!(parse("", &document).unwrap(), expected);
    document.as_object_mut().unwrap().remove("mediaType");
    assert_eq!(parse("", &document).unwrap(), expected);
    assert_eq!(parse(OCI_MANIFEST, &document).unwrap(), expected);
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, "m")]});
    assert!(matches!(parse("", &index).unwrap(), Document::Index(_)));
}

#[test]
fn what_is_two_things_at_once_or_neither_is_refused() {
    let image = manifest(&[]);
    assert!(refusal(OCI_INDEX, &image).contains("says of itself"));
    assert!(refusal(DOCKER_MANIFEST, &image).contains("says of itself"));
    let mut both = image.clone();
    both["manifests"] = json!([]);
    assert!(refusal(OCI_MANIFEST, &both).contains("its fields"));
    both.as_object_mut().unwrap().remove("mediaType");
    assert!(refusal("", &both).contains("its fields"));
    for (sent, document, reason) in [
        ("text/html", image.clone(), "unsupported media type \"text/html\""),
        ("", json!({"schemaVersion": 2, "mediaType": "application/x"}), "unsupported media type"),
        ("", json!({"schemaVersion": 3}), "schemaVersion"),
        ("", json!({}), "schemaVersion"),
        ("", json!("x"), "not the JSON"),
        ("", json!({"schemaVersion": 2}), "its fields"),
        ("", json!({"schemaVersion": 1, "fsLayers": []}), "schema 1 is no longer supported"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", json!({}), "schema 1"),
    ] {
        let text = refusal(sent, &document);
        assert!(text.contains(reason), "{text}");
    }
    let huge = vec![b' '; 4 << 20 | 1];
    assert!(matches!(Document::parse(&MediaType::default(), &huge), Err(ManifestError::TooLarge)));
}

#[test]
fn numbers_and_lists_are_bounded() {
    let many = vec![descriptor(LAYER, "a"); 513];
    assert!(refusal("", &manifest(&many)).contains("512 layers"));
    let mut layer = descriptor(LAYER, "a");
    layer["size"] = json!(u64::MAX);
    assert!(refusal("", &manifest(&[layer.clone(), layer.clone()])).contains("sizes"));
    layer["size"] = json!(-1);
    assert!(refusal("", &manifest(&[layer.clone()])).contains("JSON"));
    layer["size"] = json!(1);
    layer["digest"] = json!("sha256:../../x");
    assert!(refusal("", &manifest(&[layer])).contains("JSON"));
    let entries = vec![descriptor(OCI_MANIFEST, "m"); 1025];
    assert!(refusal("", &json!({"schemaVersion": 2, "manifests": entries})).contains("1024"));
}

#[test]
fn only_whole_images_are_images() {
    let check = |document: &Value| image(document).check_is_image();
    check(&manifest(&[descriptor(LAYER, "a")])).unwrap();
    let mut chart = manifest(&[]);
    chart["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    let mut plugin = manifest(&[]);
    plugin["config"]["mediaType"] = json!("application/vnd.docker.plugin.v1+json");
    let mut huge = manifest(&[]);
    huge["config"]["size"] = json!(100 << 20);
    let mut elsewhere = descriptor(LAYER, "a");
    elsewhere["urls"] = json!(["https://example.com/layer"]);
    let foreign = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "a");
    for (document, reason) in [
        (chart, "encountered remote \"application/vnd.cncf.helm.config.v1+json\"(unknown) when fetching"),
        (plugin, "(plugin) when fetching"),
        (huge, "more than 4 MiB"),
        (manifest(&[elsewhere]), "URLs of its own"),
        (manifest(&[foreign]), "a foreign layer"),
        (manifest(&[descriptor("application/x", "a")]), "unsupported media type \"application/x\""),
    ] {
        let text = check(&document).unwrap_err().to_string();
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn the_best_entry_of_an_index_is_chosen() {
    let entry = |platform: Value, content: &str| {
        let mut entry = descriptor(OCI_MANIFEST, content);
        entry["platform"] = platform;
        entry
    };
    let arm = |variant: &str| json!({"os": "linux", "architecture": "arm", "variant": variant});
    let document = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        entry(json!({"os": "unknown", "architecture": "unknown"}), "attestation"),
        entry(Value::Null, "any"),
        entry(arm("v5"), "v5"),
        entry(arm("v6"), "v6"),
        entry(json!({"os": "linux", "architecture": "amd64"}), "amd64"),
        descriptor("application/vnd.dev.cosign.signature", "signature"),
    ]});
    let Document::Index(index) = parse(OCI_INDEX, &document).unwrap() else { panic!("an index") };
    let chosen = |platform: &str| index.choose(&platform.parse().unwrap()).unwrap().digest;
    assert_eq!(chosen("linux/amd64"), Digest::of(b"amd64"));
    assert_eq!(chosen("linux/arm/v7"), Digest::of(b"v6"));
    assert_eq!(chosen("linux/s390x"), Digest::of(b"any"));
    let without = Index { manifests: index.manifests[2..].to_vec(), ..index };
    let error = without.choose(&"linux/arm64".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(error, "no matching manifest for linux/arm64 in the manifest list entries");
}
