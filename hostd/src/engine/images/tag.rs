//! Giving an image a further name.

use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::image::TagError;

impl Engine {
    /// Makes a name lead to an image that is here.
    ///
    /// # Errors
    /// No such image, or what is no name.
    pub async fn tag_image(&self, source: &str, name: &str) -> Result<(), EngineError> {
        let (source, name) = (source.to_owned(), name.to_owned());
        let (image, name) = self.with_images(move |images| Ok(images.tag(&source, &name)?)).await?;
        self.publish_image("tag", image.id.to_string(), name.familiar(), Some(&image));
        Ok(())
    }
}

impl From<TagError> for EngineError {
    fn from(error: TagError) -> Self {
        match error {
            TagError::Source(error) => error.into(),
            TagError::Name(_) | TagError::Digest | TagError::Algorithm => Self::invalid(error.to_string()),
        }
    }
}
