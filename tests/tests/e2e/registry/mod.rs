//! Images between a daemon and real registries.

mod login;
mod network;
mod pull;
mod push;
mod unreliable;

use berth_tests::made_image::{Files, MadeImage, noise_layer};
use berth_tests::registry::Registry;
use berth_tests::{Host, Skopeo};

/// What most stories need, the registry with nothing in it.
fn host_and_registry() -> Option<(Host, Registry, Skopeo)> {
    Some((Host::empty()?, Registry::plain()?, Skopeo::find()?))
}

/// Has skopeo push an archive as the image of that name, which says where to.
fn fill(skopeo: &Skopeo, archive: &str, image: &str) {
    skopeo.copy(&format!("oci-archive:{archive}"), &format!("docker://{image}"));
}

/// As [`fill`], with an image that is not on disk.
fn fill_with(skopeo: &Skopeo, made: &MadeImage, image: &str) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let archive = directory.path().join("made.tar");
    made.write_archive(&archive, "made:latest");
    fill(skopeo, &archive.to_string_lossy(), image);
}

/// Some layers of some hundred kilobytes that do not compress; images of different seeds have no layer in common.
fn noise(seed: u64, layers: u64) -> MadeImage {
    let layer = |layer| noise_layer(seed * 1000 + layer, 4, 100_000);
    MadeImage::of_layers(&(0..layers).map(layer).collect::<Vec<_>>())
}

/// An image that differs from all others by its one file.
fn tiny(content: &str) -> MadeImage {
    MadeImage::of_layers(&[Files::new().file("content", content.as_bytes()).tar()])
}
