//! Images that arrive piece by piece: what is there at which moment, and what is left when something goes wrong.

use std::io::Read;

use serde_json::json;

use super::archives::*;
use super::*;
use crate::image::manifest::{Class, Dialect, Document, MediaType, RawDocument};

/// An image as its registry has it.
pub(super) struct Remote {
    manifest: RawDocument,
    config: Vec<u8>,
    /// Plain and as they travel, base first.
    layers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Remote {
    pub(super) fn new(layers: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let plain: Vec<&[u8]> = layers.iter().map(|(plain, _)| &plain[..]).collect();
        let config = config(&plain);
        let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()});
        let blobs: Vec<_> = layers
            .iter()
            .map(|(_, blob)| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", blob))
            .collect();
        let config_descriptor = descriptor("application/vnd.oci.image.config.v1+json", &config);
        let content = json!({"schemaVersion": 2, "config": config_descriptor, "layers": blobs}).to_string();
        let media_type = MediaType::of(Class::Manifest(Dialect::Oci)).unwrap();
        let digest = Digest::of(content.as_bytes());
        let manifest = RawDocument { digest, media_type, content: content.into() };
        Self { manifest, config, layers: layers.to_vec() }
    }

    fn arriving(&self) -> ArrivingImage {
        let Document::Manifest(manifest) = self.manifest.parse().unwrap() else { panic!("a manifest") };
        ArrivingImage::new(&manifest, self.config.clone().into()).unwrap()
    }

    /// Takes every layer in that is missing, and publishes the image under a name.
    pub(super) fn pull(&self, store: &ImageStore, name: &str) -> bool {
        let image = self.arriving();
        let pins = store.pin(image.digests());
        for (layer, (_, blob)) in image.layers.iter().zip(&self.layers) {
            if store.presence(layer).unwrap() == Presence::Nothing {
                store.take_in_layer(layer, &blob[..], &|_| ()).unwrap();
            }
        }
        let name = Reference::parse(name).unwrap();
        let selector = Selector::Manifest(self.manifest.digest);
        let names = [name.clone(), Reference { selector, ..name }];
        let updated = store.publish_image(&image, std::slice::from_ref(&self.manifest), &names).unwrap();
        drop(pins);
        updated
    }
}

fn packed(content: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let plain = layer("f", content);
    let blob = gzip(&plain);
    (plain, blob)
}

#[test]
fn an_image_appears_when_it_is_whole() {
    let host = Host::new();
    let remote = Remote::new(&[packed(b"below"), packed(b"above")]);
    let store = host.store();
    let image = remote.arriving();
    let _pins = store.pin(image.digests());
    store.take_in_layer(&image.layers[0], &remote.layers[0].1[..], &|_| ()).unwrap();
    let present: Vec<_> = image.layers.iter().map(|layer| store.presence(layer).unwrap()).collect();
    assert_eq!(present, [Presence::Whole, Presence::Nothing]);
    assert!(store.list().unwrap().is_empty());
    assert!(remote.pull(store, "a:b"), "the name is new");
    assert!(!remote.pull(store, "a:b"), "the name leads there already");
    let found = store.resolve("a:b").unwrap();
    assert_eq!(found.repo_digests, [format!("a@{}", remote.manifest.digest)]);
    assert_eq!(store.target(&Reference::parse("a:b").unwrap()).unwrap(), Some(remote.manifest.clone()));
    assert_eq!(store.config(&found.id).unwrap().unwrap(), remote.config);
    assert!(host.disk_contains("a:b", b"above"));
    let newer = Remote::new(&[packed(b"newer")]);
    assert!(newer.pull(store, "a:b"), "the name leads elsewhere now");
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_layer_that_is_not_what_it_should_be_leaves_nothing() {
    let host = Host::new();
    let remote = Remote::new(&[packed(b"content")]);
    let (image, blob) = (remote.arriving(), &remote.layers[0].1);
    let layer = image.layers[0];
    let before = host.files();
    let other = Digest::of(b"other");
    let cut = &blob[..blob.len() - 1];
    let longer = [&blob[..], b"x"].concat();
    let mut changed = blob.clone();
    *changed.last_mut().unwrap() ^= 1;
    for (layer, bytes, reason) in [
        (layer, cut, format!("bytes instead of {}", blob.len())),
        (layer, &longer[..], format!("more than {} bytes", blob.len())),
        (layer, &changed[..], format!("digest is {}", Digest::of(&changed))),
        (
            LayerSource { diff_id: other, ..layer },
            &blob[..],
            format!("uncompressed digest is {}", layer.diff_id),
        ),
    ] {
        let error = host.store().take_in_layer(&layer, bytes, &|_| ()).unwrap_err();
        assert!(error.is_senders_fault(), "{error}");
        let text = format!("{:#}", anyhow::Error::new(error));
        assert!(text.starts_with(&format!("layer {}: ", layer.blob)) && text.contains(&reason), "{text}");
        assert_eq!(host.files(), before);
        assert_eq!(host.store().presence(&layer).unwrap(), Presence::Nothing);
    }
}

#[test]
fn a_source_that_breaks_off_is_not_the_layers_fault() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line is dead"))
        }
    }
    let host = Host::new();
    let remote = Remote::new(&[packed(b"content")]);
    let layer = remote.arriving().layers[0];
    let source = remote.layers[0].1[..20].chain(Broken);
    let error = host.store().take_in_layer(&layer, source, &|_| ()).unwrap_err();
    assert!(!error.is_senders_fault());
    assert!(format!("{:#}", anyhow::Error::new(error)).contains("the line is dead"));
}

#[test]
fn what_a_blob_is_known_to_be_is_not_overruled() {
    let host = Host::new();
    let remote = Remote::new(&[packed(b"content")]);
    remote.pull(host.store(), "a");
    let layer = remote.arriving().layers[0];
    for lie in [
        LayerSource { diff_id: Digest::of(b"other"), ..layer },
        LayerSource { size_bytes: layer.size_bytes + 1, ..layer },
    ] {
        assert!(host.store().presence(&lie).unwrap_err().is_senders_fault());
    }
}

#[test]
fn a_completed_layer_waits_for_its_image_until_the_next_sweep() {
    let mut host = Host::new();
    let empty = host.files();
    let remote = Remote::new(&[packed(b"below"), packed(b"above")]);
    let layer = remote.arriving().layers[0];
    host.store().take_in_layer(&layer, &remote.layers[0].1[..], &|_| ()).unwrap();
    assert_eq!(host.store().presence(&layer).unwrap(), Presence::Whole);
    let pins = host.store().pin([layer.blob, layer.diff_id]);
    host.store().collect_garbage().unwrap();
    assert_eq!(host.store().presence(&layer).unwrap(), Presence::Whole, "somebody waits for it");
    drop(pins);
    host.restart();
    assert_eq!(host.files(), empty);
    assert_eq!(host.store().presence(&layer).unwrap(), Presence::Nothing);
}

#[test]
fn a_layer_whose_files_are_gone_is_made_of_its_blob() {
    let host = Host::new();
    let remote = Remote::new(&[packed(b"content")]);
    remote.pull(host.store(), "a");
    let layer = remote.arriving().layers[0];
    fs::remove_dir_all(host.store().shared.files.layer(&layer.diff_id).path).unwrap();
    assert_eq!(host.store().presence(&layer).unwrap(), Presence::Blob);
    host.store().unpack_again(&layer).unwrap();
    assert_eq!(host.store().presence(&layer).unwrap(), Presence::Whole);
    fs::remove_file(host.store().blob(&layer.blob).unwrap().unwrap().path).unwrap();
    assert_eq!(host.store().presence(&layer).unwrap(), Presence::Nothing);
    remote.pull(host.store(), "a");
    assert!(host.disk_contains("a", b"content"));
    assert_eq!(fs::read(host.store().blob(&layer.blob).unwrap().unwrap().path).unwrap(), remote.layers[0].1);
}

#[test]
fn arrivals_loads_and_removals_of_the_same_layers_do_not_disturb_each_other() {
    let host = Host::new();
    let base = packed(&[3; 50_000]);
    let archive = docker_save("loaded", &[&base.0, &layer("n", b"n")]).bytes();
    let remotes: Vec<_> =
        (0..3_u8).map(|number| Remote::new(&[base.clone(), packed(&[number; 20_000])])).collect();
    std::thread::scope(|scope| {
        for (number, remote) in remotes.iter().enumerate() {
            let host = &host;
            scope.spawn(move || {
                for _ in 0..5 {
                    remote.pull(host.store(), &format!("i:{number}"));
                    assert!(host.disk_contains(&format!("i:{number}"), &[3; 1000]));
                    host.remove(&format!("i:{number}"), false).unwrap();
                }
                remote.pull(host.store(), &format!("i:{number}"));
            });
        }
        scope.spawn(|| (0..5).for_each(|_| drop(host.load(&archive).unwrap())));
    });
    assert_eq!(host.store().list().unwrap().len(), 4);
    for number in 0..3_u8 {
        assert!(host.disk_contains(&format!("i:{number}"), &[number; 1000]));
    }
}
