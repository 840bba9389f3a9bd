//! What is saved can be loaded again, exactly, and the same images give the same bytes.

use std::io::Read;

use serde_json::{Value, json};

use super::archives::*;
use super::*;

fn saved(host: &Host, words: &[&str]) -> Vec<u8> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut bytes = Vec::new();
    host.store().prepare_save(&words, None).unwrap().write(&mut bytes).unwrap();
    bytes
}

fn files_of(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
    });
    entries.collect()
}

fn document(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
    serde_json::from_slice(&files[name]).unwrap()
}

/// A multi-platform index that only our part of is here, under a name.
fn indexed(name: &str, blob: Vec<u8>, plain: &[u8]) -> (Digest, Vec<u8>) {
    let mut oci = Oci::new();
    let platform = |architecture: &str| json!({"platform": {"os": "linux", "architecture": architecture}});
    let ours = with(oci.image(&[(plain, blob)]), &platform("amd64"));
    let elsewhere = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"arm").to_string(), "size": 3});
    let manifests = json!([with(elsewhere, &platform("arm64")), ours]);
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes();
    let digest = Digest::of(&index);
    let index = oci.blob(OCI_INDEX, index);
    let named = with(index, &json!({"annotations": {"io.containerd.image.name": name}}));
    (digest, oci.list(named).archive().bytes())
}

#[test]
fn an_archive_has_both_layouts_and_loads_to_the_same_image() {
    let host = Host::new();
    let layers = [layer("f", b"content"), layer("g", b"more")];
    host.load(&docker_save("team/a:1", &[&layers[0], &layers[1]]).bytes()).unwrap();
    host.store().tag("team/a:1", "b").unwrap();
    let id = host.store().resolve("b").unwrap().id;
    let archive = saved(&host, &["team/a:1", "b"]);
    let files = files_of(&archive);
    let blob = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
    let layer_names: Vec<_> = layers.iter().map(|layer| blob(Digest::of(layer))).collect();
    let expected =
        json!([{"Config": blob(id.0), "RepoTags": ["b:latest", "team/a:1"], "Layers": layer_names}]);
    assert_eq!(document(&files, "manifest.json"), expected);
    let index = document(&files, "index.json");
    assert_eq!(
        index["manifests"][0]["annotations"]["io.containerd.image.name"],
        "docker.io/library/b:latest"
    );
    assert_eq!(index["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"], "1");
    let top = Digest::of(&layers[1]).hex();
    assert_eq!(document(&files, "repositories"), json!({"b": {"latest": top}, "team/a": {"1": top}}));
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);

    let other = Host::new();
    other.load(&archive).unwrap();
    let image = other.store().resolve("team/a:1").unwrap();
    assert_eq!((image.id, image.names), (id, vec!["b:latest".to_owned(), "team/a:1".to_owned()]));
    assert!(other.disk_contains("b", b"more"));
}

#[test]
fn the_same_images_give_the_same_bytes_whatever_their_order() {
    let make = |names: [&str; 2]| {
        let host = Host::new();
        for name in names {
            host.load(&docker_save(name, &[&layer("f", name.as_bytes())]).bytes()).unwrap();
        }
        saved(&host, &names)
    };
    assert!(make(["a", "b"]) == make(["b", "a"]));
}

#[test]
fn a_stored_index_and_its_blobs_travel_byte_for_byte() {
    let host = Host::new();
    let plain = layer("f", b"content");
    let (digest, archive) = indexed("docker.io/library/a:1", gzip(&plain), &plain);
    host.load(&archive).unwrap();
    let archive = saved(&host, &["a:1"]);
    let files = files_of(&archive);
    assert_eq!(document(&files, "index.json")["manifests"][0]["digest"], digest.to_string());
    assert!(files.contains_key(&format!("blobs/sha256/{}", Digest::of(&gzip(&plain)).hex())));

    let other = Host::new();
    other.load(&archive).unwrap();
    assert_eq!(other.store().resolve("a:1").unwrap().repo_digests, [format!("a@{digest}")]);
    assert!(saved(&other, &["a:1"]) == archive, "saved again, it is the same archive");
}

#[test]
fn a_repository_means_its_tags_and_an_id_no_name() {
    let host = Host::new();
    for tag in ["a:1", "a:2", "b:1"] {
        host.load(&docker_save(tag, &[&layer("f", tag.as_bytes())]).bytes()).unwrap();
    }
    let names = |archive: &[u8]| {
        let list = document(&files_of(archive), "manifest.json");
        let tags = list.as_array().unwrap().iter().map(|item| item["RepoTags"].clone());
        let mut tags: Vec<String> = tags.map(|tags| tags.to_string()).collect();
        tags.sort();
        tags
    };
    assert_eq!(names(&saved(&host, &["a"])), [r#"["a:1"]"#, r#"["a:2"]"#]);
    let id = host.store().resolve("b:1").unwrap().id.short();
    assert_eq!(names(&saved(&host, &[&id])), ["null"]);
}

#[test]
fn what_cannot_be_saved_is_known_before_the_first_byte() {
    let host = Host::new();
    host.load(&docker_save("a", &[&layer("f", b"x")]).bytes()).unwrap();
    let refused = |word: &str, platform: Option<&str>| {
        let platform: Option<Platform> = platform.map(|text| text.parse().unwrap());
        host.store().prepare_save(&[word.to_owned()], platform.as_ref()).unwrap_err().to_string()
    };
    assert_eq!(refused("nosuch", None), "No such image: nosuch:latest");
    assert_eq!(
        refused("a", Some("linux/arm64")),
        "image with reference a:latest was found but does not provide the specified platform (linux/arm64)"
    );
    assert!(host.store().prepare_save(&["a".to_owned()], Some(&Platform::host())).is_ok());
    fs::remove_dir_all(host.images().join("blobs")).unwrap();
    assert!(refused("a", None).ends_with("load or pull the image again"), "{}", refused("a", None));
}

#[test]
fn an_image_that_is_removed_while_it_is_saved_arrives_whole_and_goes_then() {
    let host = Host::new();
    let empty = host.files();
    host.load(&docker_save("a", &[&layer("f", b"content")]).bytes()).unwrap();
    let saving = host.store().prepare_save(&["a".to_owned()], None).unwrap();
    host.remove("a", false).unwrap();
    let mut archive = Vec::new();
    saving.write(&mut archive).unwrap();
    drop(saving);
    assert_eq!(host.files(), empty);
    host.load(&archive).unwrap();
    assert!(host.disk_contains("a", b"content"));
}
