//! Documents: manifests, indexes and configurations, and the archives that carry them.

use super::archive_script::{self, Input};
use super::layer::directory;
use crate::image::archive;
use crate::image::manifest::{Document, MediaType, Platform};
use crate::image::record::Configuration;

const TYPES: [&str; 8] = [
    "",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/json",
    "text/html",
];

/// A manifest, an index or a configuration: refused, or within the bounds that everything behind it trusts.
pub(super) fn manifest(input: &[u8]) {
    let Some((kind, content)) = input.split_first() else { return };
    drop(serde_json::from_slice::<Configuration>(content));
    let sent = MediaType::try_from(TYPES[usize::from(*kind) % TYPES.len()].to_owned()).expect("short");
    match Document::parse(&sent, content) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(Document::Manifest(manifest)) => {
            assert!(manifest.layers.len() <= 512);
            drop(manifest.check_is_image());
        }
        Ok(Document::Index(index)) => {
            assert!(index.manifests.len() <= 1024);
            if let Ok(chosen) = index.choose(&Platform::host()) {
                assert!(index.manifests.contains(chosen));
            }
        }
    }
}

/// An archive of images: refused, or every layer that it names is a file that it brought.
pub(super) fn image_archive(input: &[u8]) {
    let directory = directory();
    let bytes = match input.split_first() {
        Some((0, raw)) => raw.to_vec(),
        _ => archive_script::archive(&mut Input::new(input)),
    };
    let Ok(images) = archive::read(&bytes[..], directory.path(), None) else { return };
    for layer in images.iter().flat_map(|image| &image.layers) {
        let length = std::fs::metadata(&layer.path).map(|metadata| metadata.len());
        assert!(layer.path.starts_with(directory.path()), "inside the spool");
        assert_eq!(length.expect("it was spooled"), layer.size_bytes);
    }
}
