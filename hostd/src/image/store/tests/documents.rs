//! What the store keeps of manifests and blobs, and for how long.

use rusqlite::Connection;
use serde_json::json;

use super::archives::*;
use super::*;
use crate::image::manifest::Document;

/// An index of one image of this layer, as an archive that names it.
fn indexed(name: &str, plain: &[u8], blob: Vec<u8>) -> (Digest, Digest, Vec<u8>) {
    let mut oci = Oci::new();
    let manifest =
        with(oci.image(&[(plain, blob)]), &json!({"platform": {"os": "linux", "architecture": "amd64"}}));
    let manifest_digest = serde_json::from_value(manifest["digest"].clone()).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string().into_bytes();
    let index_digest = Digest::of(&index);
    let index = oci.blob(OCI_INDEX, index);
    let named = with(index, &json!({"annotations": {"io.containerd.image.name": name}}));
    (index_digest, manifest_digest, oci.list(named).archive().bytes())
}

#[test]
fn a_name_stands_for_its_index_and_that_leads_to_the_blobs() {
    let host = Host::new();
    let plain = layer("f", b"content");
    let blob = gzip(&plain);
    let (index, manifest, archive) = indexed("docker.io/library/a:b", &plain, blob.clone());
    host.load(&archive).unwrap();
    let store = host.store();
    let target = store.target(&Reference::parse("a:b").unwrap()).unwrap().unwrap();
    assert_eq!((target.digest, Digest::of(&target.content)), (index, index));
    assert_eq!(store.target(&Reference::parse(&format!("a@{index}")).unwrap()).unwrap(), Some(target));
    let image = store.resolve("a:b").unwrap();
    assert_eq!(image.repo_digests, [format!("a@{index}")]);
    assert_eq!(store.image_of_manifest(&manifest).unwrap(), Some(image.id));
    assert_eq!(Digest::of(&store.config(&image.id).unwrap().unwrap()), image.id.0);
    let found = store.manifest_for(&image.id).unwrap().unwrap();
    assert_eq!(found.digest, manifest);
    let Document::Manifest(found) = found.parse().unwrap() else { panic!("a manifest") };
    let stored = store.blob(&found.layers[0].digest).unwrap().unwrap();
    assert_eq!((stored.size_bytes, stored.diff_id), (blob.len() as u64, Digest::of(&plain)));
    assert_eq!(fs::read(&stored.path).unwrap(), blob);
    assert_eq!(store.blobs_of(&image.id).unwrap(), [stored]);
}

#[test]
fn an_image_without_a_manifest_is_given_one_that_is_always_the_same() {
    let layers = [layer("f", b"content"), layer("g", b"more")];
    let make = || {
        let host = Host::new();
        host.load(&docker_save("a", &[&layers[0], &layers[1]]).bytes()).unwrap();
        let image = host.store().resolve("a").unwrap();
        assert_eq!(host.store().target(&Reference::parse("a").unwrap()).unwrap(), None);
        host.store().manifest_for(&image.id).unwrap().unwrap()
    };
    let made = make();
    assert_eq!(made, make());
    let Document::Manifest(manifest) = made.parse().unwrap() else { panic!("a manifest") };
    manifest.check_is_image().unwrap();
    let blobs: Vec<_> = manifest.layers.iter().map(|layer| (layer.digest, layer.size_bytes)).collect();
    assert_eq!(blobs, layers.each_ref().map(|layer| (Digest::of(layer), layer.len() as u64)));
    assert_eq!(Host::new().store().manifest_for(&ImageId(Digest::of(b"none"))).unwrap(), None);
}

#[test]
fn the_same_image_packed_in_two_ways_keeps_both_until_it_goes() {
    let host = Host::new();
    let empty = host.files();
    let plain = layer("f", b"content");
    let (blobs, names) = ([gzip(&plain), zstd(&plain)], ["docker.io/library/a:1", "ghcr.io/x/a:2"]);
    for (name, blob) in names.iter().zip(&blobs) {
        host.load(&indexed(name, &plain, blob.clone()).2).unwrap();
    }
    let store = host.store();
    let id = store.resolve("a:1").unwrap().id;
    assert_eq!(store.resolve("ghcr.io/x/a:2").unwrap().id, id);
    assert_eq!(store.manifests_of(&id).unwrap().len(), 2);
    for blob in &blobs {
        assert_eq!(fs::read(store.blob(&Digest::of(blob)).unwrap().unwrap().path).unwrap(), *blob);
    }
    host.remove("a:1", false).unwrap();
    assert_eq!(store.documents().unwrap().len(), 3, "the removed name's index goes, both manifests stay");
    assert!(store.blob(&Digest::of(&blobs[0])).unwrap().is_some());
    host.remove("ghcr.io/x/a:2", false).unwrap();
    assert_eq!(store.documents().unwrap(), []);
    assert_eq!(host.files(), empty);
}

#[test]
fn what_is_pinned_stays_until_it_no_longer_is() {
    let host = Host::new();
    let empty = host.files();
    let plain = layer("f", b"content");
    let blob = gzip(&plain);
    host.load(&indexed("docker.io/library/a:b", &plain, blob.clone()).2).unwrap();
    let pins = host.store().pin([Digest::of(&plain), Digest::of(&blob)]);
    host.remove("a:b", false).unwrap();
    let stored = host.store().blob(&Digest::of(&blob)).unwrap().unwrap();
    assert_eq!(fs::read(stored.path).unwrap(), blob);
    drop(pins);
    host.store().sweep().unwrap();
    assert_eq!(host.files(), empty);
}

#[test]
fn blobs_of_an_older_daemons_store_are_recorded_at_its_opening() {
    let mut host = Host::new();
    let plain = layer("f", b"content");
    host.load(&docker_save("a", &[&plain]).bytes()).unwrap();
    host.store = None;
    let database = Connection::open(host.root.path().join("berth.db")).unwrap();
    database.execute("DELETE FROM blobs", ()).unwrap();
    drop(database);
    host.restart();
    let stored = host.store().blob(&Digest::of(&plain)).unwrap().unwrap();
    assert_eq!((stored.size_bytes, stored.diff_id), (plain.len() as u64, Digest::of(&plain)));
}
