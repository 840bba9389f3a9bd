//! Importing a file system's archive as an image.

use std::io::Read;

use crate::engine::Engine;
use crate::image::{ImageId, ImportSpec, LoadError};

impl Engine {
    /// Makes an image of an archive. Blocks for as long as the archive comes.
    ///
    /// # Errors
    /// Those of [`crate::image::ImageStore::import`].
    pub fn import_image(&self, archive: impl Read, spec: &ImportSpec) -> Result<ImageId, LoadError> {
        let id = self.images().import(archive, spec)?;
        self.publish_image("import", id.to_string(), id.to_string(), None);
        Ok(id)
    }
}
