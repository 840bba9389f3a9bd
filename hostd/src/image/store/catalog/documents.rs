//! Rows of manifests and blobs.

use rusqlite::OptionalExtension;

use super::{BlobRecord, Catalog};
use crate::image::digest::Digest;
use crate::image::manifest::{Document, ManifestError, MediaType, RawDocument};
use crate::image::record::ImageId;
use crate::image::reference::{Repository, Selector};
use crate::image::store::StoreError;

impl Catalog<'_> {
    /// Keeps a document, and what it refers to.
    pub(in crate::image::store) fn insert_document(&self, raw: &RawDocument) -> Result<(), StoreError> {
        let unreadable = |error: ManifestError| StoreError::Record {
            id: raw.digest.to_string(),
            problem: error.to_string(),
        };
        let document = raw.parse().map_err(unreadable)?;
        let sql = "INSERT INTO manifests (digest, media_type, content) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO NOTHING";
        let digest = raw.digest.to_string();
        let inserted = self.0.execute(sql, (&digest, raw.media_type.as_str(), &raw.content[..]))?;
        if inserted == 0 {
            return Ok(());
        }
        let links: Vec<_> = match document {
            Document::Manifest(manifest) => {
                let layers = manifest.layers.iter().map(|layer| ("layer", layer.digest));
                std::iter::once(("config", manifest.config.digest)).chain(layers).collect()
            }
            Document::Index(index) => index.manifests.iter().map(|child| ("child", child.digest)).collect(),
        };
        let sql = "INSERT INTO manifest_links (manifest, position, role, digest) VALUES (?1, ?2, ?3, ?4)";
        let mut insert = self.0.prepare_cached(sql)?;
        for (position, (role, target)) in links.into_iter().enumerate() {
            let position = i64::try_from(position).expect("documents are bounded");
            insert.execute((&digest, position, role, target.to_string()))?;
        }
        Ok(())
    }

    pub(in crate::image::store) fn document(
        &self,
        digest: &Digest,
    ) -> Result<Option<RawDocument>, StoreError> {
        let sql = "SELECT media_type, content FROM manifests WHERE digest = ?1";
        let row = self.0.query_row(sql, [digest.to_string()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
        });
        let Some((media_type, content)) = row.optional()? else { return Ok(None) };
        let unreadable =
            |problem: &str| StoreError::Record { id: digest.to_string(), problem: problem.into() };
        let media_type = MediaType::parse(&media_type).map_err(unreadable)?;
        Ok(Some(RawDocument { digest: *digest, media_type, content: content.into() }))
    }

    pub(in crate::image::store) fn document_digests(&self) -> Result<Vec<Digest>, StoreError> {
        self.digests("SELECT digest FROM manifests ORDER BY digest", ())
    }

    /// The document that a name stands for, if it stands for one: loaded images need have none.
    pub(in crate::image::store) fn target(
        &self,
        repository: &Repository,
        selector: &Selector,
    ) -> Result<Option<Digest>, StoreError> {
        let repository = repository.canonical();
        let digests = match selector {
            Selector::Tag(tag) => self.digests(
                "SELECT target FROM image_tags WHERE repository = ?1 AND tag = ?2 AND target IS NOT NULL",
                (repository, tag),
            )?,
            Selector::Manifest(digest) => self.digests(
                "SELECT digest FROM image_digests WHERE repository = ?1 AND digest = ?2",
                (repository, digest.to_string()),
            )?,
        };
        Ok(digests.first().copied())
    }

    /// The manifests of an image, oldest first. The same image may travel in several ways.
    pub(in crate::image::store) fn manifests_of(&self, id: &ImageId) -> Result<Vec<Digest>, StoreError> {
        let sql = "SELECT manifests.digest FROM manifest_links JOIN manifests ON manifests.digest = manifest
                   WHERE role = 'config' AND manifest_links.digest = ?1 ORDER BY manifests.rowid";
        self.digests(sql, [id.to_string()])
    }

    /// The image that a manifest describes, if it is here.
    pub(in crate::image::store) fn image_of_manifest(
        &self,
        manifest: &Digest,
    ) -> Result<Option<ImageId>, StoreError> {
        let sql = "SELECT images.id FROM manifest_links JOIN images ON images.id = digest
                   WHERE role = 'config' AND manifest = ?1";
        Ok(self.digests(sql, [manifest.to_string()])?.first().copied().map(ImageId))
    }

    pub(in crate::image::store) fn config(&self, id: &ImageId) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT config FROM images WHERE id = ?1";
        Ok(self.0.query_row(sql, [id.to_string()], |row| row.get(0)).optional()?)
    }

    /// The layer must be there already.
    pub(in crate::image::store) fn insert_blob(&self, blob: &BlobRecord) -> Result<(), StoreError> {
        let sql = "INSERT INTO blobs (digest, size_bytes, diff_id) VALUES (?1, ?2, ?3)
                   ON CONFLICT DO NOTHING";
        let size_bytes = i64::try_from(blob.size_bytes).expect("files are not that long");
        self.0.execute(sql, (blob.digest.to_string(), size_bytes, blob.diff_id.to_string()))?;
        Ok(())
    }

    pub(in crate::image::store) fn blob(&self, digest: &Digest) -> Result<Option<BlobRecord>, StoreError> {
        let sql = "SELECT diff_id FROM blobs WHERE digest = ?1";
        let Some(diff_id) = self.digests(sql, [digest.to_string()])?.first().copied() else {
            return Ok(None);
        };
        let sql = "SELECT size_bytes FROM blobs WHERE digest = ?1";
        let size_bytes: i64 = self.0.query_row(sql, [digest.to_string()], |row| row.get(0))?;
        let size_bytes = u64::try_from(size_bytes).unwrap_or_default();
        Ok(Some(BlobRecord { digest: *digest, size_bytes, diff_id }))
    }

    /// The blobs that an image's layers came as, base first.
    pub(in crate::image::store) fn blobs_of(&self, id: &ImageId) -> Result<Vec<BlobRecord>, StoreError> {
        let sql = "SELECT blob FROM image_layers WHERE image_id = ?1 ORDER BY position";
        let digests = self.digests(sql, [id.to_string()])?;
        let missing = |digest: &Digest| StoreError::Record {
            id: id.to_string(),
            problem: format!("its blob {digest} has no record"),
        };
        digests.iter().map(|digest| self.blob(digest)?.ok_or_else(|| missing(digest))).collect()
    }

    /// Blobs that stores of before there were blobs' records have, and their layers.
    pub(in crate::image::store) fn unrecorded_blobs(&self) -> Result<Vec<(Digest, Digest)>, StoreError> {
        let from =
            "FROM image_layers WHERE blob NOT IN (SELECT digest FROM blobs) GROUP BY blob ORDER BY blob";
        let blobs = self.digests(&format!("SELECT blob {from}"), ())?;
        let diff_ids = self.digests(&format!("SELECT min(diff_id) {from}"), ())?;
        Ok(blobs.into_iter().zip(diff_ids).collect())
    }
}
