//! What no name and no image leads to any more.
//!
//! An image holds its manifests, and these their blobs; a name holds the index that it stands for. What a failed pull
//! has completed is held by nothing.

use std::collections::HashSet;

use super::Catalog;
use crate::image::digest::Digest;
use crate::image::store::StoreError;

/// Manifests whose image is not here, and indexes that no name leads to, directly or through other indexes.
const UNUSED_DOCUMENTS: &str = "
    WITH RECURSIVE
    of_images (digest) AS (
        SELECT manifest FROM manifest_links JOIN images ON images.id = manifest_links.digest WHERE role = 'config'
    ),
    named (digest) AS (
        SELECT target FROM image_tags WHERE target IS NOT NULL
        UNION SELECT digest FROM image_digests
        UNION SELECT link.digest FROM manifest_links AS link JOIN named ON link.manifest = named.digest
            WHERE role = 'child'
    )
    SELECT digest FROM manifests
    WHERE digest NOT IN (SELECT digest FROM of_images)
    AND (digest NOT IN (SELECT digest FROM named)
         OR digest IN (SELECT manifest FROM manifest_links WHERE role = 'config'))";

/// To be asked when unused manifests are gone.
const UNUSED_BLOBS: &str = "
    SELECT digest FROM blobs
    WHERE digest NOT IN (SELECT blob FROM image_layers)
    AND digest NOT IN (SELECT digest FROM manifest_links WHERE role = 'layer')";

/// To be asked when unused blobs are gone.
const UNUSED_LAYERS: &str = "
    SELECT diff_id FROM layers
    WHERE diff_id NOT IN (SELECT diff_id FROM image_layers)
    AND diff_id NOT IN (SELECT diff_id FROM blobs)";

impl Catalog<'_> {
    /// Takes the rows of all that nothing holds and `is_pinned` does not say to keep. Returns the layers among them.
    pub(in crate::image::store) fn remove_unused(
        &self,
        is_pinned: impl Fn(&Digest) -> bool,
    ) -> Result<Vec<Digest>, StoreError> {
        self.remove(UNUSED_DOCUMENTS, "DELETE FROM manifests WHERE digest = ?1", &is_pinned)?;
        self.remove(UNUSED_BLOBS, "DELETE FROM blobs WHERE digest = ?1", &is_pinned)?;
        self.remove(UNUSED_LAYERS, "DELETE FROM layers WHERE diff_id = ?1", &is_pinned)
    }

    fn remove(
        &self,
        find: &str,
        delete: &str,
        is_pinned: &impl Fn(&Digest) -> bool,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut unused = self.digests(find, ())?;
        unused.retain(|digest| !is_pinned(digest));
        let mut statement = self.0.prepare_cached(delete)?;
        for digest in &unused {
            statement.execute([digest.to_string()])?;
        }
        Ok(unused)
    }

    /// Every blob that there should be a file of.
    pub(in crate::image::store) fn blobs(&self) -> Result<HashSet<Digest>, StoreError> {
        let sql = "SELECT digest FROM blobs UNION SELECT blob FROM image_layers";
        Ok(self.digests(sql, ())?.into_iter().collect())
    }
}
