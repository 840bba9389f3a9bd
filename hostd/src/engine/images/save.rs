//! Saving images into an archive.

use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::image::manifest::Platform;
use crate::image::{SaveError, Saving};

impl Engine {
    /// Gathers images; what is returned keeps them until it is dropped, and writes the archive.
    ///
    /// # Errors
    /// One of them is not here, or not for that platform.
    pub async fn save_images(
        &self,
        words: Vec<String>,
        platform: Option<Platform>,
    ) -> Result<Saving, EngineError> {
        let saving =
            self.with_images(move |images| Ok(images.prepare_save(&words, platform.as_ref())?)).await?;
        for image in &saving.images {
            self.publish_image("save", image.id.to_string(), image.id.to_string(), Some(image));
        }
        Ok(saving)
    }
}

impl From<SaveError> for EngineError {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Resolve(error) => error.into(),
            SaveError::Missing { .. } => Self::internal("cannot save", &error),
        }
    }
}
