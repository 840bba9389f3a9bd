//! The store's rows: every query on the image tables is here. Images, names and layers in this file; manifests and
//! blobs, and what nothing uses any more, in their own.

mod documents;
mod garbage;

use std::collections::HashSet;
use std::str::FromStr;

use rusqlite::{OptionalExtension, Params, Transaction};

use super::StoreError;
use super::usage::LayerUse;
use crate::image::digest::Digest;
use crate::image::record::{Configuration, Image, ImageId, KnownAs};
use crate::image::reference::{Reference, Repository, Selector};

/// The image tables within one transaction.
pub(super) struct Catalog<'a>(pub(super) &'a Transaction<'a>);

/// What a row of `images` and its `image_layers` are made of.
pub(super) struct NewImage<'a> {
    pub(super) id: ImageId,
    pub(super) config: &'a [u8],
    pub(super) layers: Vec<NewLayer>,
}

pub(super) struct NewLayer {
    pub(super) diff_id: Digest,
    pub(super) blob: Digest,
}

/// A layer as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobRecord {
    pub(super) digest: Digest,
    pub(super) size_bytes: u64,
    /// The layer that it holds.
    pub(super) diff_id: Digest,
}

impl Catalog<'_> {
    pub(super) fn insert_layer(&self, diff_id: &Digest, content_bytes: u64) -> Result<(), StoreError> {
        let sql = "INSERT INTO layers (diff_id, content_bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        let content_bytes = i64::try_from(content_bytes).expect("layers are bounded");
        self.0.execute(sql, (diff_id.to_string(), content_bytes))?;
        Ok(())
    }

    /// Adds the image with its layers, which are there already.
    pub(super) fn insert_image(&self, image: &NewImage<'_>) -> Result<(), StoreError> {
        let id = image.id.to_string();
        let loaded_at = jiff::Timestamp::now().to_string();
        let sql = "INSERT INTO images (id, config, loaded_at) VALUES (?1, ?2, ?3)";
        self.0.execute(sql, (&id, image.config, loaded_at))?;
        let sql = "INSERT INTO image_layers (image_id, position, diff_id, blob) VALUES (?1, ?2, ?3, ?4)";
        let mut insert = self.0.prepare(sql)?;
        for (position, layer) in image.layers.iter().enumerate() {
            insert.execute((
                &id,
                i64::try_from(position).expect("layers are bounded"),
                layer.diff_id.to_string(),
                layer.blob.to_string(),
            ))?;
        }
        Ok(())
    }

    /// Makes the name lead to this image, wherever it led before. `target` is the document that a tag stands for; a
    /// digest stands for the document of that digest.
    pub(super) fn set_name(
        &self,
        name: &Reference,
        id: &ImageId,
        target: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let repository = name.repository.canonical();
        match &name.selector {
            Selector::Tag(tag) => self.set_tag(repository, tag, id, target)?,
            Selector::Manifest(digest) => self.0.execute(
                "INSERT INTO image_digests (repository, digest, image_id) VALUES (?1, ?2, ?3)
                 ON CONFLICT (repository, digest) DO UPDATE SET image_id = excluded.image_id",
                (repository, digest.to_string(), id.to_string()),
            )?,
        };
        Ok(())
    }

    fn set_tag(
        &self,
        repository: &str,
        tag: &str,
        id: &ImageId,
        target: Option<&Digest>,
    ) -> Result<usize, StoreError> {
        self.0.execute(
            "INSERT INTO image_tags (repository, tag, image_id, target) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (repository, tag)
             DO UPDATE SET image_id = excluded.image_id, target = excluded.target",
            (repository, tag, id.to_string(), target.map(Digest::to_string)),
        )?;
        let sql = "UPDATE images SET tagged_at = ?2 WHERE id = ?1";
        Ok(self.0.execute(sql, (id.to_string(), jiff::Timestamp::now().to_string()))?)
    }

    pub(super) fn remove_name(&self, name: &Reference) -> Result<(), StoreError> {
        let repository = name.repository.canonical();
        match &name.selector {
            Selector::Tag(tag) => self
                .0
                .execute("DELETE FROM image_tags WHERE repository = ?1 AND tag = ?2", (repository, tag))?,
            Selector::Manifest(digest) => self.0.execute(
                "DELETE FROM image_digests WHERE repository = ?1 AND digest = ?2",
                (repository, digest.to_string()),
            )?,
        };
        Ok(())
    }

    /// Takes an image that has no names any more, and its hold on its layers.
    pub(super) fn remove_image(&self, id: &ImageId) -> Result<(), StoreError> {
        self.0.execute("DELETE FROM images WHERE id = ?1", [id.to_string()])?;
        Ok(())
    }

    pub(super) fn has_image(&self, id: &ImageId) -> Result<bool, StoreError> {
        let sql = "SELECT count(*) > 0 FROM images WHERE id = ?1";
        Ok(self.0.query_row(sql, [id.to_string()], |row| row.get(0))?)
    }

    pub(super) fn tagged(&self, repository: &Repository, tag: &str) -> Result<Option<ImageId>, StoreError> {
        let sql = "SELECT image_id FROM image_tags WHERE repository = ?1 AND tag = ?2";
        let ids = self.digests(sql, (repository.canonical(), tag))?;
        Ok(ids.first().copied().map(ImageId))
    }

    pub(super) fn by_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ImageId>, StoreError> {
        let sql = "SELECT image_id FROM image_digests WHERE repository = ?1 AND digest = ?2";
        let ids = self.digests(sql, (repository.canonical(), digest.to_string()))?;
        Ok(ids.first().copied().map(ImageId))
    }

    /// A repository's tags and what they lead to.
    pub(super) fn tags_of(&self, repository: &Repository) -> Result<Vec<(ImageId, Reference)>, StoreError> {
        let sql = "SELECT repository || ':' || tag FROM image_tags WHERE repository = ?1 ORDER BY tag";
        let names = self.parsed(sql, [repository.canonical()], Reference::parse)?;
        let mut tags = Vec::new();
        for name in names {
            if let Selector::Tag(tag) = &name.selector
                && let Some(id) = self.tagged(repository, tag)?
            {
                tags.push((id, name));
            }
        }
        Ok(tags)
    }

    /// At most two: one more than is unambiguous.
    pub(super) fn ids_beginning_with(&self, digits: &str) -> Result<Vec<ImageId>, StoreError> {
        let sql = "SELECT id FROM images WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2";
        let ids = self.digests(sql, [format!("sha256:{digits}")])?;
        Ok(ids.into_iter().map(ImageId).collect())
    }

    pub(super) fn ids(&self) -> Result<HashSet<ImageId>, StoreError> {
        Ok(self.digests("SELECT id FROM images", ())?.into_iter().map(ImageId).collect())
    }

    pub(super) fn layers(&self) -> Result<HashSet<Digest>, StoreError> {
        Ok(self.digests("SELECT diff_id FROM layers", ())?.into_iter().collect())
    }

    /// An image's layers, base first; `None` if there is no such image.
    pub(super) fn layers_of(&self, id: &ImageId) -> Result<Option<Vec<Digest>>, StoreError> {
        if !self.has_image(id)? {
            return Ok(None);
        }
        let sql = "SELECT diff_id FROM image_layers WHERE image_id = ?1 ORDER BY position";
        self.digests(sql, [id.to_string()]).map(Some)
    }

    /// Bytes of each of an image's layers, base first.
    pub(super) fn layer_bytes_of(&self, id: &ImageId) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT content_bytes FROM image_layers JOIN layers USING (diff_id)
                   WHERE image_id = ?1 ORDER BY position";
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map([id.to_string()], |row| row.get::<_, i64>(0))?;
        rows.map(|bytes| Ok(u64::try_from(bytes?).unwrap_or_default())).collect()
    }

    /// Every layer of every image.
    pub(super) fn layer_uses(&self) -> Result<Vec<LayerUse>, StoreError> {
        let sql =
            "SELECT image_id, diff_id, blob, content_bytes FROM image_layers JOIN layers USING (diff_id)
                   ORDER BY image_id, position";
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map((), |row| {
            let text = |column| row.get::<_, String>(column);
            Ok((text(0)?, text(1)?, text(2)?, row.get::<_, i64>(3)?))
        })?;
        rows.map(|row| {
            let (image, diff_id, blob, content_bytes) = row?;
            Ok(LayerUse {
                image: ImageId(digest(&image)?),
                diff_id: digest(&diff_id)?,
                blob: digest(&blob)?,
                content_bytes: u64::try_from(content_bytes).unwrap_or_default(),
            })
        })
        .collect()
    }

    pub(super) fn images(&self) -> Result<Vec<Image>, StoreError> {
        self.ids()?.iter().map(|id| self.image(id)).collect()
    }

    pub(super) fn image(&self, id: &ImageId) -> Result<Image, StoreError> {
        let sql = "SELECT config, tagged_at FROM images WHERE id = ?1";
        let (config, tagged_at) = self.0.query_row(sql, [id.to_string()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<String>>(1)?))
        })?;
        let unreadable =
            |error: serde_json::Error| StoreError::Record { id: id.to_string(), problem: error.to_string() };
        let configuration: Configuration = serde_json::from_slice(&config).map_err(unreadable)?;
        let names = self.names_of(id)?;
        let familiar = |wanted: fn(&Selector) -> bool| {
            let names = names.iter().filter(|name| wanted(&name.selector));
            names.map(Reference::familiar).collect()
        };
        let known_as = KnownAs {
            names: familiar(|selector| matches!(selector, Selector::Tag(_))),
            repo_digests: familiar(|selector| matches!(selector, Selector::Manifest(_))),
            tagged_at: tagged_at.and_then(|text| text.parse().ok()),
        };
        Ok(configuration.into_image(*id, known_as, self.content_bytes(id)?))
    }

    /// Every name that leads to the image, sorted.
    pub(super) fn names_of(&self, id: &ImageId) -> Result<Vec<Reference>, StoreError> {
        let sql = "SELECT repository || ':' || tag FROM image_tags WHERE image_id = ?1
                   UNION ALL SELECT repository || '@' || digest FROM image_digests WHERE image_id = ?1";
        let mut names = self.parsed(sql, [id.to_string()], Reference::parse)?;
        names.sort();
        Ok(names)
    }

    fn content_bytes(&self, id: &ImageId) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(content_bytes), 0) FROM image_layers JOIN layers USING (diff_id)
                   WHERE image_id = ?1";
        let bytes: i64 =
            self.0.query_row(sql, [id.to_string()], |row| row.get(0)).optional()?.unwrap_or_default();
        Ok(u64::try_from(bytes).unwrap_or_default())
    }

    fn digests(&self, sql: &str, params: impl Params) -> Result<Vec<Digest>, StoreError> {
        self.parsed(sql, params, Digest::from_str)
    }

    /// One column of text, each row parsed.
    fn parsed<T, E: ToString>(
        &self,
        sql: &str,
        params: impl Params,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map(params, |row| row.get::<_, String>(0))?;
        rows.map(|text| {
            let text = text?;
            let unreadable = |error: E| StoreError::Record { id: text.clone(), problem: error.to_string() };
            parse(&text).map_err(unreadable)
        })
        .collect()
    }
}

fn digest(text: &str) -> Result<Digest, StoreError> {
    let unreadable = |problem: String| StoreError::Record { id: text.to_owned(), problem };
    text.parse().map_err(|error: crate::image::digest::InvalidDigest| unreadable(error.to_string()))
}
