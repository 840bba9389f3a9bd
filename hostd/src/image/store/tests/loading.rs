//! Archives that must load, and what the store then says of them.

use serde_json::json;

use super::archives::*;
use super::*;

#[test]
fn a_docker_archive_becomes_an_image_with_a_disk() {
    let host = Host::new();
    let layers = [layer("bin/true", b"the program"), layer("etc/motd", b"the greeting")];
    let archive = docker_save("busybox:1.36", &[&layers[0], &layers[1]]).bytes();
    let mut progress = Vec::new();
    let loaded = host.store().load(&archive[..], &mut |step| progress.push(step)).unwrap();
    assert_eq!(loaded, [LoadedImage::Name("busybox:1.36".into())]);
    let image = host.store().resolve("busybox:1.36").unwrap();
    assert_eq!(image.names, ["busybox:1.36"]);
    assert_eq!((image.os.as_str(), image.architecture.as_str()), ("linux", "amd64"));
    assert_eq!(image.config.cmd.as_deref(), Some(&["/bin/true".to_owned()][..]));
    assert_eq!(image.size_bytes, 23);
    assert_eq!(image.layers, layers.each_ref().map(|layer| Digest::of(layer)));
    assert!(host.disk_contains("busybox:1.36", b"the greeting"));
    for layer in &layers {
        let (id, total_bytes) = (Digest::of(layer), layer.len() as u64);
        assert!(progress.contains(&LoadProgress::Layer { id, current_bytes: total_bytes, total_bytes }));
    }
}

#[test]
fn layers_and_archives_may_be_compressed_either_way() {
    let plain = layer("f", b"content");
    for blob in [plain.clone(), gzip(&plain), zstd(&plain)] {
        let mut oci = Oci::new();
        let manifest = oci.image(&[(&plain, blob)]);
        let named =
            with(manifest, &json!({"annotations": {"io.containerd.image.name": "docker.io/library/a:b"}}));
        let archive = oci.list(named).archive().bytes();
        for archive in [archive.clone(), gzip(&archive), zstd(&archive)] {
            let host = Host::new();
            assert_eq!(host.load(&archive).unwrap(), [LoadedImage::Name("a:b".into())]);
            assert!(host.disk_contains("a:b", b"content"));
        }
    }
}

#[test]
fn an_oci_index_is_followed_to_this_platform() {
    let (ours, theirs) = (layer("f", b"for amd64"), layer("f", b"for arm64"));
    let mut oci = Oci::new();
    let arm = with(
        oci.image(&[(&theirs, theirs.clone())]),
        &json!({"platform": {"os": "linux", "architecture": "arm64"}}),
    );
    let amd = with(
        oci.image(&[(&ours, ours.clone())]),
        &json!({"platform": {"os": "linux", "architecture": "amd64"}}),
    );
    let index = json!({"schemaVersion": 2, "manifests": [arm, amd]}).to_string().into_bytes();
    let nested = oci.blob(OCI_INDEX, index);
    let index: Digest = serde_json::from_value(nested["digest"].clone()).unwrap();
    let named = with(nested, &json!({"annotations": {"org.opencontainers.image.ref.name": "ghcr.io/x/y:z"}}));
    let host = Host::new();
    assert_eq!(
        host.load(&oci.list(named).archive().bytes()).unwrap(),
        [LoadedImage::Name("ghcr.io/x/y:z".into())]
    );
    assert!(host.disk_contains("ghcr.io/x/y:z", b"for amd64"));
    let by_digest = host.store().resolve(&format!("ghcr.io/x/y@{index}")).unwrap();
    assert_eq!(by_digest.repo_digests, [format!("ghcr.io/x/y@{index}")]);
}

#[test]
fn a_mere_tag_is_no_name() {
    let plain = layer("f", b"content");
    let mut oci = Oci::new();
    let tagged = with(
        oci.image(&[(&plain, plain.clone())]),
        &json!({"annotations": {"org.opencontainers.image.ref.name": "latest"}}),
    );
    let host = Host::new();
    let loaded = host.load(&oci.list(tagged).archive().bytes()).unwrap();
    let [LoadedImage::Id(id)] = loaded[..] else { panic!("{loaded:?}") };
    assert_eq!(host.store().resolve(&id.to_string()).unwrap().names, [] as [&str; 0]);
}

#[test]
fn layers_that_are_links_in_the_archive_are_followed() {
    let plain = layer("f", b"content");
    let config = config(&[&plain, &plain]);
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest = json!([{"Config": name, "RepoTags": ["a"], "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let archive = Tar::new()
        .link("two/layer.tar", tar::EntryType::Symlink, "../one/layer.tar")
        .file("one/layer.tar", &plain)
        .file(&name, &config)
        .file("manifest.json", manifest.to_string().as_bytes());
    let host = Host::new();
    host.load(&archive.bytes()).unwrap();
    assert_eq!(host.store().resolve("a").unwrap().layers.len(), 2);
    assert!(host.disk_contains("a", b"content"));
}

#[test]
fn images_share_layers() {
    let host = Host::new();
    let base = layer("base", b"base");
    host.load(&docker_save("a", &[&base, &layer("a", b"a")]).bytes()).unwrap();
    let before = host.files().len();
    let mut seen = Vec::new();
    let archive = docker_save("b", &[&base, &layer("b", b"b")]).bytes();
    host.store().load(&archive[..], &mut |LoadProgress::Layer { id, .. }| seen.push(id)).unwrap();
    assert!(!seen.contains(&Digest::of(&base)), "a layer that is there is not taken in again");
    // One layer of two files, one blob, one disk.
    assert_eq!(host.files().len(), before + 4);
}

#[test]
fn many_at_once_all_succeed() {
    let host = Host::new();
    let base = layer("base", &[3; 100_000]);
    let archives: Vec<_> = (0..4)
        .map(|n| docker_save(&format!("i:{}", n % 2), &[&base, &layer("n", &[n % 2])]).bytes())
        .collect();
    std::thread::scope(|scope| {
        for archive in &archives {
            scope.spawn(|| host.load(archive).unwrap());
        }
    });
    assert_eq!(host.store().list().unwrap().len(), 2);
    assert!(host.disk_contains("i:0", &[3; 1000]) && host.disk_contains("i:1", &[3; 1000]));
}
