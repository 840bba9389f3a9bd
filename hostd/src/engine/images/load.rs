//! Loading an archive of images.

use std::io::Read;

use crate::engine::Engine;
use crate::image::manifest::Platform;
use crate::image::{LoadError, LoadProgress, LoadedImage};

impl Engine {
    /// Loads an archive's images, all or none. Blocks for as long as the archive comes.
    ///
    /// # Errors
    /// Those of [`crate::image::ImageStore::load_for`].
    pub fn load_images(
        &self,
        archive: impl Read,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<LoadedImage>, LoadError> {
        let loaded = self.images().load_for(archive, platform, progress)?;
        for word in &loaded {
            let word = match word {
                LoadedImage::Name(name) => name.clone(),
                LoadedImage::Id(id) => id.to_string(),
            };
            // One that was removed at once has nothing to tell any more.
            if let Ok(image) = self.images().resolve(&word) {
                self.publish_image("load", image.id.to_string(), image.id.to_string(), Some(&image));
            }
        }
        Ok(loaded)
    }
}
