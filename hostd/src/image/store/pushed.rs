//! What a registry has since a push: the image keeps the manifest it went with, and a name by its digest there.

use super::catalog::Catalog;
use super::{ImageStore, StoreError};
use crate::image::manifest::RawDocument;
use crate::image::record::ImageId;
use crate::image::reference::{Reference, Repository, Selector};

impl ImageStore {
    /// Notes that `repository` has the image as this manifest or index. False if the image was removed meanwhile, and
    /// then nothing is noted.
    ///
    /// # Errors
    /// The database fails.
    pub fn record_push(
        &self,
        id: &ImageId,
        repository: &Repository,
        pushed: &RawDocument,
    ) -> Result<bool, StoreError> {
        self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            if !catalog.has_image(id)? {
                return Ok(false);
            }
            catalog.insert_document(pushed)?;
            let selector = Selector::Manifest(pushed.digest);
            let name = Reference { repository: repository.clone(), selector };
            catalog.set_name(&name, id, Some(&pushed.digest))?;
            Ok(true)
        })
    }
}
