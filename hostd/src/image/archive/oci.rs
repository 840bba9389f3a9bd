//! OCI image layouts (OCI image-spec 1.1, image-layout.md) in a tar archive.

use std::collections::HashSet;

use super::spool::{Spool, blob_name};
use super::{ArchiveError, ArchivedImage, MAX_IMAGES, SpooledFile, check_platform, parse_name};
use crate::image::manifest::{
    Class, Descriptor, Dialect, Document, Manifest, MediaType, Platform, RawDocument,
};
use crate::image::reference::Reference;

pub(super) const INDEX: &str = "index.json";

/// Manifests and indexes looked at. Indexes that list each other over and over must not keep the daemon busy.
const MAX_DOCUMENTS: usize = 2 * MAX_IMAGES;
/// The whole name, written by containerd and Docker.
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// A whole name or a mere tag.
pub(super) const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// The images for this platform. The same image under several names is listed once for each.
pub(super) fn images(spool: &Spool, wanted: &Platform) -> Result<Vec<ArchivedImage>, ArchiveError> {
    let images = all(spool, wanted)?;
    check_platform(&images, wanted)?;
    Ok(images)
}

fn all(spool: &Spool, wanted: &Platform) -> Result<Vec<ArchivedImage>, ArchiveError> {
    let media_type = MediaType::of(Class::Index(Dialect::Oci)).expect("it is in the table");
    let content = spool.document(INDEX, "docker load")?;
    let index = match parse(INDEX, &media_type, &content)? {
        Document::Index(index) => index,
        Document::Manifest(_) => unreachable!("its type is an index's"),
    };
    if index.manifests.len() > MAX_IMAGES {
        return Err(ArchiveError::Contents(format!("more than {MAX_IMAGES} images")));
    }
    let mut search = Search { spool, wanted, documents_left: MAX_DOCUMENTS };
    let mut images = Vec::new();
    for descriptor in &index.manifests {
        let Some((manifest, documents)) = search.find_manifest(descriptor, INDEX)? else { continue };
        images.push(image(spool, &manifest, documents, name(descriptor)?)?);
    }
    Ok(images)
}

/// The images of an archive that carries both kinds of lists: Docker's says what there is, and the manifests that lead
/// to it here are joined to it, each to the names that it stands for.
pub(super) fn with_documents(
    spool: &Spool,
    images: Vec<ArchivedImage>,
) -> Result<Vec<ArchivedImage>, ArchiveError> {
    let platforms: HashSet<Platform> = images.iter().filter_map(ArchivedImage::platform).collect();
    let mut known = Vec::new();
    for platform in &platforms {
        known.extend(all(spool, platform)?);
    }
    let joined = images.into_iter().flat_map(|mut image| {
        let same = known.iter().filter(|known| known.id == image.id && known.layers == image.layers);
        let mut parts: Vec<ArchivedImage> = Vec::new();
        for known in same {
            let (stands_for, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut image.names).into_iter().partition(|name| known.names.contains(name));
            image.names = rest;
            let nameless = image.names.is_empty() && known.names.is_empty() && parts.is_empty();
            if !stands_for.is_empty() || nameless {
                parts.push(ArchivedImage {
                    names: stands_for,
                    documents: known.documents.clone(),
                    ..image.clone()
                });
            }
        }
        if parts.is_empty() || !image.names.is_empty() {
            parts.push(image);
        }
        parts
    });
    Ok(joined.collect())
}

fn parse(path: &str, media_type: &MediaType, content: &[u8]) -> Result<Document, ArchiveError> {
    Document::parse(media_type, content)
        .map_err(|source| ArchiveError::Manifest { path: path.to_owned(), source })
}

struct Search<'a> {
    spool: &'a Spool,
    wanted: &'a Platform,
    documents_left: usize,
}

impl Search<'_> {
    /// Follows indexes to the manifest for this platform, and gives all documents on the way; `None` if there is none
    /// below this descriptor.
    fn find_manifest(
        &mut self,
        descriptor: &Descriptor,
        referrer: &str,
    ) -> Result<Option<(Manifest, Vec<RawDocument>)>, ArchiveError> {
        let is_ours = |platform: &Platform| self.wanted.distance_to(platform).is_some();
        if descriptor.platform.as_ref().is_some_and(|platform| !is_ours(platform)) {
            return Ok(None);
        }
        let too_many = || ArchiveError::Contents(format!("more than {MAX_DOCUMENTS} manifests and indexes"));
        self.documents_left = self.documents_left.checked_sub(1).ok_or_else(too_many)?;
        verified(self.spool, descriptor, referrer)?;
        let path = blob_name(descriptor.digest);
        let media_type = &descriptor.media_type;
        if !matches!(media_type.class(), Class::Manifest(_) | Class::Index(_)) {
            return Err(ArchiveError::Entry { path, problem: "neither an image manifest nor an index" });
        }
        let content = self.spool.document(&path, referrer)?;
        let document = parse(&path, media_type, &content)?;
        let raw = RawDocument {
            digest: descriptor.digest,
            media_type: media_type.clone(),
            content: content.into(),
        };
        match document {
            Document::Manifest(manifest) => Ok(Some((manifest, vec![raw]))),
            Document::Index(index) => {
                for descriptor in &index.manifests {
                    if let Some((manifest, mut documents)) = self.find_manifest(descriptor, &path)? {
                        documents.insert(0, raw);
                        return Ok(Some((manifest, documents)));
                    }
                }
                Ok(None)
            }
        }
    }
}

fn image(
    spool: &Spool,
    manifest: &Manifest,
    documents: Vec<RawDocument>,
    name: Option<Reference>,
) -> Result<ArchivedImage, ArchiveError> {
    let path = documents.last().map_or_else(|| INDEX.to_owned(), |manifest| blob_name(manifest.digest));
    manifest.check_is_image().map_err(|source| ArchiveError::Manifest { path: path.clone(), source })?;
    let id = verified(spool, &manifest.config, &path)?.digest;
    let config = spool.document(&blob_name(id), &path)?;
    let layers = manifest.layers.iter().map(|layer| verified(spool, layer, &path).cloned());
    Ok(ArchivedImage {
        config,
        id,
        names: name.into_iter().collect(),
        documents,
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
    if file.size_bytes != descriptor.size_bytes {
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
    let annotations = &descriptor.annotations;
    if let Some(name) = annotations.get(NAME_ANNOTATION) {
        return parse_name(name).map(Some);
    }
    // Alone, a tag says nothing about the repository it is a tag of.
    match annotations.get(REF_NAME_ANNOTATION) {
        Some(name) if name.contains([':', '/']) => parse_name(name).map(Some),
        _ => Ok(None),
    }
}
