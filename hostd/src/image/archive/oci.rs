//! OCI image layouts (OCI image-spec 1.1, image-layout.md) in a tar archive.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::spool::{Spool, blob_name};
use super::{ArchiveError, ArchivedImage, MAX_IMAGES, SpooledFile, check_layers, parse_name};
use crate::image::digest::Digest;
use crate::image::reference::Reference;

pub(super) const INDEX: &str = "index.json";

/// Manifests and indexes looked at. Indexes that list each other over and over must not keep the daemon busy.
const MAX_DOCUMENTS: usize = 2 * MAX_IMAGES;
const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// The whole name, written by containerd and Docker.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// A whole name or a mere tag.
const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

impl Platform {
    fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == "amd64"
    }
}

/// The images for this platform. The same image under several names is listed once for each.
pub(super) fn images(spool: &Spool) -> Result<Vec<ArchivedImage>, ArchiveError> {
    let index: Index = spool.json(INDEX, "docker load")?;
    if index.manifests.len() > MAX_IMAGES {
        return Err(ArchiveError::Contents(format!("more than {MAX_IMAGES} images")));
    }
    let mut search = Search { spool, documents_left: MAX_DOCUMENTS };
    let mut images = Vec::new();
    for descriptor in &index.manifests {
        let Some(manifest) = search.find_manifest(descriptor, INDEX)? else { continue };
        images.push(image(spool, &manifest, name(descriptor)?)?);
    }
    if images.is_empty() && !index.manifests.is_empty() {
        return Err(ArchiveError::Contents("there is no image for linux/amd64 in it".to_owned()));
    }
    Ok(images)
}

struct Search<'a> {
    spool: &'a Spool,
    documents_left: usize,
}

impl Search<'_> {
    /// Follows indexes to the manifest for this platform; `None` if there is none below this descriptor.
    fn find_manifest(
        &mut self,
        descriptor: &Descriptor,
        referrer: &str,
    ) -> Result<Option<Digest>, ArchiveError> {
        if descriptor.platform.as_ref().is_some_and(|platform| !platform.is_ours()) {
            return Ok(None);
        }
        let too_many = || ArchiveError::Contents(format!("more than {MAX_DOCUMENTS} manifests and indexes"));
        self.documents_left = self.documents_left.checked_sub(1).ok_or_else(too_many)?;
        verified(self.spool, descriptor, referrer)?;
        let path = blob_name(descriptor.digest);
        let media_type = descriptor.media_type.as_str();
        if MANIFEST_TYPES.contains(&media_type) {
            return Ok(Some(descriptor.digest));
        }
        if !INDEX_TYPES.contains(&media_type) {
            return Err(ArchiveError::Entry { path, problem: "neither an image manifest nor an index" });
        }
        let index: Index = self.spool.json(&path, referrer)?;
        for descriptor in &index.manifests {
            if let Some(manifest) = self.find_manifest(descriptor, &path)? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }
}

fn image(spool: &Spool, digest: &Digest, name: Option<Reference>) -> Result<ArchivedImage, ArchiveError> {
    let path = blob_name(*digest);
    let manifest: Manifest = spool.json(&path, INDEX)?;
    if !CONFIG_TYPES.contains(&manifest.config.media_type.as_str()) {
        return Err(ArchiveError::Entry {
            path,
            problem: "the manifest of something that is no container image",
        });
    }
    check_layers(&path, manifest.layers.len())?;
    let id = verified(spool, &manifest.config, &path)?.digest;
    let config = spool.document(&blob_name(id), &path)?;
    let layers = manifest.layers.iter().map(|layer| verified(spool, layer, &path).cloned());
    Ok(ArchivedImage {
        config,
        id,
        names: name.into_iter().collect(),
        manifest: Some(*digest),
        layers: layers.collect::<Result<_, _>>()?,
    })
}

/// The blob that a descriptor describes. (Its digest was verified when it was spooled.)
fn verified<'a>(
    spool: &'a Spool,
    descriptor: &Descriptor,
    referrer: &str,
) -> Result<&'a SpooledFile, ArchiveError> {
    let file = spool.blob(descriptor.digest, referrer)?;
    if file.size_bytes != descriptor.size {
        let path = blob_name(descriptor.digest);
        return Err(ArchiveError::Entry { path, problem: "its size is not the one its descriptor says" });
    }
    // A link among the blobs could lead to a file of another digest.
    if file.digest != descriptor.digest {
        return Err(ArchiveError::Digest { path: blob_name(descriptor.digest), actual: file.digest });
    }
    Ok(file)
}

fn name(descriptor: &Descriptor) -> Result<Option<Reference>, ArchiveError> {
    let Some(annotations) = &descriptor.annotations else { return Ok(None) };
    if let Some(name) = annotations.get(NAME_ANNOTATION) {
        return parse_name(name).map(Some);
    }
    // Alone, a tag says nothing about the repository it is a tag of.
    match annotations.get(REF_NAME_ANNOTATION) {
        Some(name) if name.contains([':', '/']) => parse_name(name).map(Some),
        _ => Ok(None),
    }
}
