//! Archives that must not load: each error names what is wrong with what, and the store stays as it was.

use serde_json::json;

use super::archives::*;
use super::*;

/// Loads into a store that holds an image already; returns the error's text.
pub(super) fn refused(archive: &[u8]) -> String {
    let host = Host::new();
    host.load(&docker_save("kept", &[&layer("f", b"kept")]).bytes()).unwrap();
    let (files, images) = (host.files(), host.store().list().unwrap());
    let error = host.load(archive).unwrap_err();
    assert!(error.is_client_fault(), "{error}");
    assert_eq!((host.files(), host.store().list().unwrap()), (files, images));
    error.to_string()
}

/// An image whose one layer is these bytes.
fn with_layer(layer: &[u8]) -> Vec<u8> {
    docker_save("bad", &[layer]).bytes()
}

#[test]
fn what_is_no_image_archive() {
    assert!(refused(b"").contains("neither manifest.json"), "{}", refused(b""));
    assert!(refused(&[b'x'; 2000]).starts_with("invalid archive: malformed tar archive"));
    assert!(refused(&Tar::new().file("a", b"b").bytes()).contains("neither manifest.json"));
    assert!(refused(&Tar::new().file("manifest.json", b"[]").bytes()).contains("there is no image in it"));
    assert!(
        refused(&Tar::new().file("manifest.json", b"{").bytes()).contains("archive entry \"manifest.json\"")
    );
    let whole = gzip(&with_layer(&layer("a", b"b")));
    assert!(refused(&whole[..whole.len() / 2]).starts_with("invalid archive: "));
}

#[test]
fn paths_that_lead_out_of_the_archive() {
    for path in ["../evil", "a/../../evil", "/etc/cron.d/evil"] {
        let text = refused(&Tar::new().file(path, b"x").bytes());
        assert!(text.contains(&format!("archive entry {path:?}")), "{text}");
    }
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link] {
        for target in ["../../etc/shadow", "/etc/shadow"] {
            let text = refused(&Tar::new().link("layer.tar", kind, target).bytes());
            assert!(text.contains("archive entry \"layer.tar\""), "{text}");
        }
    }
    let text = refused(&Tar::new().file("a", b"1").file("./a", b"2").bytes());
    assert!(text.contains("it occurs twice"), "{text}");
    let device = Tar::new().link("null", tar::EntryType::Char, "").bytes();
    assert!(refused(&device).contains("a device or a pipe"));
}

#[test]
fn links_in_a_circle() {
    let config = config(&[b"x"]);
    let manifest = json!([{"Config": "config.json", "RepoTags": null, "Layers": ["a"]}]).to_string();
    let archive = Tar::new()
        .link("a", tar::EntryType::Symlink, "b")
        .link("b", tar::EntryType::Symlink, "a")
        .file("config.json", &config)
        .file("manifest.json", manifest.as_bytes());
    assert!(refused(&archive.bytes()).contains("a loop of links"));
}

#[test]
fn contents_that_are_not_what_their_digest_says() {
    let plain = layer("f", b"content");
    let other = layer("f", b"other");
    // The configuration promises one layer, the archive brings another.
    let config = config(&[&plain]);
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest = json!([{"Config": name, "RepoTags": ["bad:1"], "Layers": ["layer.tar"]}]).to_string();
    let archive = |config: &[u8]| {
        Tar::new()
            .file("layer.tar", &other)
            .file(&name, config)
            .file("manifest.json", manifest.as_bytes())
            .bytes()
    };
    let expected = format!(
        "image bad:1: layer {}: its uncompressed digest is {}",
        Digest::of(&plain),
        Digest::of(&other)
    );
    assert_eq!(refused(&archive(&config)), expected);
    let changed = [&config[..], b" "].concat();
    assert!(refused(&archive(&changed)).contains(&format!("its digest is {}", Digest::of(&changed))));
    let blob = Tar::new().file(&format!("blobs/sha256/{}", Digest::of(b"a").hex()), b"b").bytes();
    assert!(refused(&blob).contains(&format!("its digest is {}", Digest::of(b"b"))));
}

#[test]
fn documents_that_do_not_fit_together() {
    let plain = layer("f", b"content");
    let mut oci = Oci::new();
    let manifest = oci.image(&[(&plain, plain.clone())]);
    let wrong_size = with(manifest.clone(), &json!({"size": 1}));
    assert!(refused(&oci.list(wrong_size).archive().bytes()).contains("its size is not"));
    let missing = Oci::new().list(manifest).archive().bytes();
    assert!(refused(&missing).contains("is missing"));
    let mut oci = Oci::new();
    let foreign = with(
        oci.image(&[(&plain, plain.clone())]),
        &json!({"platform": {"os": "linux", "architecture": "s390x"}}),
    );
    assert!(refused(&oci.list(foreign).archive().bytes()).contains("no image for linux/amd64"));
    let mut oci = Oci::new();
    let huge = oci.blob(OCI_INDEX, vec![b' '; 5 << 20]);
    assert!(refused(&oci.list(huge).archive().bytes()).contains("a document of more than 4 MiB"));
    let config = config(&[&plain, &plain]);
    let manifest = json!([{"Config": "c", "RepoTags": ["bad"], "Layers": ["l"]}]).to_string();
    let fewer =
        Tar::new().file("l", &plain).file("c", &config).file("manifest.json", manifest.as_bytes()).bytes();
    assert_eq!(refused(&fewer), "image bad:latest: layers length mismatch: expected 2, got 1");
    let name = json!([{"Config": "c", "RepoTags": ["../bad"], "Layers": ["l", "l"]}]).to_string();
    let named =
        Tar::new().file("l", &plain).file("c", &config).file("manifest.json", name.as_bytes()).bytes();
    assert!(refused(&named).contains("image name \"../bad\": invalid reference format"));
}

/// Each index lists the next a thousand times: without a bound this would never end.
#[test]
fn indexes_that_multiply() {
    let mut oci = Oci::new();
    let mut descriptor = oci.blob(OCI_INDEX, br#"{"schemaVersion": 2, "manifests": []}"#.to_vec());
    for _ in 0..6 {
        let index = json!({"schemaVersion": 2, "manifests": vec![descriptor; 1000]}).to_string().into_bytes();
        descriptor = oci.blob(OCI_INDEX, index);
    }
    assert!(refused(&oci.list(descriptor).archive().bytes()).contains("manifests and indexes"));
}

#[test]
fn one_bad_image_among_good_ones_keeps_all_out() {
    let good = layer("f", b"good");
    let bad = Tar::new().file("..", b"x").bytes();
    let mut oci = Oci::new();
    let first = oci.image(&[(&good, gzip(&good))]);
    let second = oci.image(&[(&good, gzip(&good)), (&bad, bad.clone())]);
    refused(&oci.list(first).list(second).archive().bytes());
}
