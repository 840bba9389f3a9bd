//! Manifests and blobs of images that are here: what pushing, saving and inspecting read.
//!
//! Files are opened by whoever asks: pin what is to be read before, or a removal may take it away meanwhile.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use serde_json::json;

use super::catalog::{BlobRecord, Catalog};
use super::{ImageStore, StoreError};
use crate::image::compression::Compression;
use crate::image::digest::Digest;
use crate::image::manifest::{Class, Descriptor, Dialect, MediaType, RawDocument};
use crate::image::record::ImageId;
use crate::image::reference::Reference;

/// A layer's blob: the bytes that travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    pub digest: Digest,
    pub size_bytes: u64,
    /// The layer that it holds.
    pub diff_id: Digest,
    pub path: PathBuf,
}

impl ImageStore {
    /// The manifest or index that a name stands for; `None` if the name is not here or stands for no document, as names
    /// of `docker save`'s archives do.
    ///
    /// # Errors
    /// The database fails.
    pub fn target(&self, name: &Reference) -> Result<Option<RawDocument>, StoreError> {
        self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            match catalog.target(&name.repository, &name.selector)? {
                Some(digest) => catalog.document(&digest),
                None => Ok(None),
            }
        })
    }

    /// A manifest or index by its digest. Children of an index need not all be here.
    ///
    /// # Errors
    /// The database fails.
    pub fn document(&self, digest: &Digest) -> Result<Option<RawDocument>, StoreError> {
        self.shared.database.with(|tx| Catalog(tx).document(digest))
    }

    /// The digests of all manifests and indexes, sorted.
    ///
    /// # Errors
    /// The database fails.
    pub fn documents(&self) -> Result<Vec<Digest>, StoreError> {
        self.shared.database.with(|tx| Catalog(tx).document_digests())
    }

    /// The image that a manifest describes, if both are here.
    ///
    /// # Errors
    /// The database fails.
    pub fn image_of_manifest(&self, manifest: &Digest) -> Result<Option<ImageId>, StoreError> {
        self.shared.database.with(|tx| Catalog(tx).image_of_manifest(manifest))
    }

    /// Every manifest that the image came with, oldest first.
    ///
    /// # Errors
    /// The database fails.
    pub fn manifests_of(&self, id: &ImageId) -> Result<Vec<RawDocument>, StoreError> {
        self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            let digests = catalog.manifests_of(id)?;
            let documents = digests.iter().map(|digest| catalog.document(digest));
            Ok(documents.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        })
    }

    /// The manifest that the image came with, or one made of its stored blobs: the same image always gives the same
    /// bytes. `None` if there is no such image. Nothing is stored.
    ///
    /// # Errors
    /// The database or a blob's file fails.
    pub fn manifest_for(&self, id: &ImageId) -> Result<Option<RawDocument>, StoreError> {
        if let Some(manifest) = self.manifests_of(id)?.into_iter().next() {
            return Ok(Some(manifest));
        }
        let found = self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            Ok::<_, StoreError>((catalog.config(id)?, catalog.blobs_of(id)?))
        })?;
        match found {
            (Some(config), blobs) => self.make_manifest(id, &config, &blobs).map(Some),
            (None, _) => Ok(None),
        }
    }

    /// The image's configuration, byte for byte: its digest is the image's id.
    ///
    /// # Errors
    /// The database fails.
    pub fn config(&self, id: &ImageId) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.database.with(|tx| Catalog(tx).config(id))
    }

    /// A layer's blob by its digest.
    ///
    /// # Errors
    /// The database fails.
    pub fn blob(&self, digest: &Digest) -> Result<Option<StoredBlob>, StoreError> {
        let record = self.shared.database.with(|tx| Catalog(tx).blob(digest))?;
        Ok(record.map(|record| self.stored(record)))
    }

    /// The blobs that the image's layers came as first, base first.
    ///
    /// # Errors
    /// The database fails.
    pub fn blobs_of(&self, id: &ImageId) -> Result<Vec<StoredBlob>, StoreError> {
        let records = self.shared.database.with(|tx| Catalog(tx).blobs_of(id))?;
        Ok(records.into_iter().map(|record| self.stored(record)).collect())
    }

    fn stored(&self, record: BlobRecord) -> StoredBlob {
        let BlobRecord { digest, size_bytes, diff_id } = record;
        StoredBlob { digest, size_bytes, diff_id, path: self.shared.files.blob(&digest) }
    }

    fn make_manifest(
        &self,
        id: &ImageId,
        config: &[u8],
        blobs: &[BlobRecord],
    ) -> Result<RawDocument, StoreError> {
        let media_type = MediaType::of(Class::Manifest(Dialect::Oci)).expect("it is in the table");
        let config_type = MediaType::of(Class::Config(Dialect::Oci)).expect("it is in the table");
        let config = Descriptor::new(config_type, id.0, config.len() as u64);
        let layers = blobs.iter().map(|blob| self.describe(blob)).collect::<Result<Vec<_>, _>>()?;
        let content =
            json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers })
                .to_string();
        Ok(RawDocument { digest: Digest::of(content.as_bytes()), media_type, content: content.into() })
    }

    fn describe(&self, blob: &BlobRecord) -> Result<Descriptor, StoreError> {
        let path = self.shared.files.blob(&blob.digest);
        let mut magic = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(Compression::MAGIC_BYTES).read_to_end(&mut magic))
            .map_err(|source| StoreError::File { step: "reading", path, source })?;
        let suffix = match Compression::recognize(&magic) {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        let media_type = MediaType::parse(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"));
        Ok(Descriptor::new(media_type.expect("it is well formed"), blob.digest, blob.size_bytes))
    }

    /// Gives the blobs of stores that an older daemon wrote their records.
    pub(super) fn record_blobs(&self) -> Result<(), StoreError> {
        let unrecorded = self.shared.database.with(|tx| Catalog(tx).unrecorded_blobs())?;
        let measured = unrecorded.into_iter().filter_map(|(digest, diff_id)| {
            // Without its file it can be neither pushed nor saved, and loading it again heals that.
            let size_bytes = fs::metadata(self.shared.files.blob(&digest)).ok()?.len();
            Some(BlobRecord { digest, size_bytes, diff_id })
        });
        let measured: Vec<_> = measured.collect();
        self.shared.database.with(|tx| measured.iter().try_for_each(|blob| Catalog(tx).insert_blob(blob)))
    }
}
