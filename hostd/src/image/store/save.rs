//! Saving images: what belongs into an archive is gathered and pinned first, so that what is wrong is known before the
//! first byte; then it is written as fast as its reader takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::catalog::Catalog;
use super::pin::Pins;
use super::{ImageStore, Matched, ResolveError, StoreError, StoredBlob, find};
use crate::image::archive::write::{OutgoingBlob, OutgoingImage, write};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Manifest, Platform, RawDocument};
use crate::image::record::{Image, ImageId};
use crate::image::reference::{Reference, Repository, Selector};

/// Images ready to be written into an archive. They stay in the store until this goes.
#[derive(Debug)]
pub struct Saving {
    /// Each once.
    pub images: Vec<Image>,
    outgoing: Vec<OutgoingImage>,
    blobs: BTreeMap<Digest, OutgoingBlob>,
    store: ImageStore,
    pins: Option<Pins>,
}

/// Why images cannot be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("image {image}: layer {blob} is missing from the store; load or pull the image again")]
    Missing { image: ImageId, blob: Digest },
}

impl From<StoreError> for SaveError {
    fn from(error: StoreError) -> Self {
        Self::Resolve(error.into())
    }
}

impl ImageStore {
    /// Gathers the images that these words mean: a name with tag, an id, or a repository for all its tags. With
    /// `platform`, the image for that platform of each.
    ///
    /// # Errors
    /// A word leads to no image, or to none for that platform; or a blob's file is gone.
    pub fn prepare_save(&self, words: &[String], platform: Option<&Platform>) -> Result<Saving, SaveError> {
        let mut chosen = BTreeSet::new();
        for word in words {
            chosen.extend(self.meant_by(word)?);
        }
        let mut saving = Saving {
            images: Vec::new(),
            outgoing: Vec::new(),
            blobs: BTreeMap::new(),
            store: self.clone(),
            pins: None,
        };
        for (id, name) in chosen {
            let id = self.for_platform(id, name.as_ref(), platform)?;
            saving.add(id, name, platform.is_some())?;
        }
        saving.pin()?;
        let ids: BTreeSet<ImageId> = saving.outgoing.iter().map(|image| image.id).collect();
        for id in ids {
            saving.images.push(self.shared.database.with(|tx| Catalog(tx).image(&id))?);
        }
        Ok(saving)
    }

    /// Images and the tags under which they are to be saved.
    fn meant_by(&self, word: &str) -> Result<Vec<(ImageId, Option<Reference>)>, ResolveError> {
        self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            if let Ok(repository) = Repository::parse(word) {
                let tags = catalog.tags_of(&repository)?;
                if !tags.is_empty() {
                    return Ok(tags.into_iter().map(|(id, name)| (id, Some(name))).collect());
                }
            }
            let (image, matched) = find(&catalog, word)?;
            let name = match matched {
                Matched::Name(name) if matches!(name.selector, Selector::Tag(_)) => Some(name),
                Matched::Name(_) | Matched::Id => None,
            };
            Ok(vec![(image.id, name)])
        })
    }

    /// The manifest's blobs, if all of them are here.
    fn blobs_of_manifest(&self, manifest: &Manifest) -> Result<Result<Vec<StoredBlob>, Digest>, StoreError> {
        let mut blobs = Vec::new();
        for layer in &manifest.layers {
            match self.blob(&layer.digest)? {
                Some(blob) if blob.path.exists() => blobs.push(blob),
                _ => return Ok(Err(layer.digest)),
            }
        }
        Ok(Ok(blobs))
    }
}

impl Saving {
    /// Writes the archive. What fails half-way fails for its reader too.
    ///
    /// # Errors
    /// The reader is gone, or a file of the store cannot be read.
    pub fn write(&self, target: impl Write) -> io::Result<()> {
        write(&self.outgoing, &self.blobs, target)
    }

    /// Adds an image under one name.
    fn add(&mut self, id: ImageId, name: Option<Reference>, alone: bool) -> Result<(), SaveError> {
        let target = name.as_ref().map(|name| self.store.target(name)).transpose()?.flatten();
        let index = match target.as_ref().map(RawDocument::parse) {
            Some(Ok(Document::Index(index))) if !alone => Some(index),
            _ => None,
        };
        let manifest = match &target {
            Some(raw) if index.is_none() && self.store.image_of_manifest(&raw.digest)? == Some(id) => {
                Some(raw.clone())
            }
            _ => None,
        };
        let (raw, layers) = self.add_manifest(id, manifest)?;
        let target = match (index, target) {
            (Some(index), Some(target)) => {
                for child in &index.manifests {
                    self.add_child(child)?;
                }
                self.add_document(&target);
                target
            }
            _ => raw,
        };
        let target = Descriptor::new(target.media_type, target.digest, target.content.len() as u64);
        self.outgoing.push(OutgoingImage { id, name, target, layers });
        Ok(())
    }

    /// Adds the image with this manifest, or with one whose blobs are all here.
    fn add_manifest(
        &mut self,
        id: ImageId,
        wanted: Option<RawDocument>,
    ) -> Result<(RawDocument, Vec<Digest>), SaveError> {
        let own = self.store.blobs_of(&id)?;
        let mut missing = own.iter().find(|blob| !blob.path.exists()).map(|blob| blob.digest);
        let fallback = if missing.is_none() { self.store.manifest_for(&id)? } else { None };
        for raw in wanted.into_iter().chain(fallback) {
            let Ok(Document::Manifest(manifest)) = raw.parse() else { continue };
            match self.store.blobs_of_manifest(&manifest)? {
                Ok(blobs) => {
                    let layers = blobs.iter().map(|blob| blob.digest).collect();
                    self.add_image_files(id, &raw, blobs)?;
                    return Ok((raw, layers));
                }
                Err(blob) => missing = Some(blob),
            }
        }
        Err(SaveError::Missing { image: id, blob: missing.unwrap_or(id.0) })
    }

    /// An index's further images, as far as they are here.
    fn add_child(&mut self, child: &Descriptor) -> Result<(), SaveError> {
        let Some(raw) = self.store.document(&child.digest)? else { return Ok(()) };
        let Some(id) = self.store.image_of_manifest(&child.digest)? else { return Ok(()) };
        let Ok(Document::Manifest(manifest)) = raw.parse() else { return Ok(()) };
        if let Ok(blobs) = self.store.blobs_of_manifest(&manifest)? {
            self.add_image_files(id, &raw, blobs)?;
        }
        Ok(())
    }

    fn add_image_files(
        &mut self,
        id: ImageId,
        manifest: &RawDocument,
        layers: Vec<StoredBlob>,
    ) -> Result<(), SaveError> {
        let config = self.store.config(&id)?.unwrap_or_default();
        self.blobs.insert(id.0, OutgoingBlob::Document(config.into()));
        self.add_document(manifest);
        for StoredBlob { digest, size_bytes, path, .. } in layers {
            self.blobs.insert(digest, OutgoingBlob::File { path, size_bytes });
        }
        Ok(())
    }

    fn add_document(&mut self, raw: &RawDocument) {
        self.blobs.insert(raw.digest, OutgoingBlob::Document(raw.content.clone()));
    }

    /// From here on no removal takes the files. One that was faster is found out.
    fn pin(&mut self) -> Result<(), SaveError> {
        self.pins = Some(self.store.pin(self.blobs.keys().copied()));
        for image in &self.outgoing {
            for layer in &image.layers {
                if let Some(OutgoingBlob::File { path, .. }) = self.blobs.get(layer)
                    && !path.exists()
                {
                    return Err(SaveError::Missing { image: image.id, blob: *layer });
                }
            }
        }
        Ok(())
    }
}

impl Drop for Saving {
    /// What was removed meanwhile, and stayed for our sake, goes now.
    fn drop(&mut self) {
        if self.pins.take().is_some()
            && let Err(error) = self.store.sweep()
        {
            tracing::warn!(%error, "image store: cannot clear up after a save");
        }
    }
}
