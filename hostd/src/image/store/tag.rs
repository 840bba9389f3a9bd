//! Giving an image that is here one more name.

use super::catalog::Catalog;
use super::{ImageStore, Matched, ResolveError, find};
use crate::image::record::Image;
use crate::image::reference::{InvalidReference, Reference, Selector};

/// Why a name was not given.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    #[error(transparent)]
    Source(#[from] ResolveError),
    #[error(transparent)]
    Name(#[from] InvalidReference),
    #[error("refusing to create a tag with a digest reference")]
    Digest,
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    Algorithm,
}

impl From<rusqlite::Error> for TagError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Source(error.into())
    }
}

impl ImageStore {
    /// Makes `name` (with `latest` if it says no tag) lead to the image that `source` leads to, wherever it led before.
    /// Returns the image as it is then, and the name.
    ///
    /// # Errors
    /// No such image, or what is no name of an image.
    pub fn tag(&self, source: &str, name: &str) -> Result<(Image, Reference), TagError> {
        let name = Reference::parse(name)?;
        if matches!(name.selector, Selector::Manifest(_)) {
            return Err(TagError::Digest);
        }
        // It would be taken for the beginning of an id.
        if name.repository.familiar() == "sha256" {
            return Err(TagError::Algorithm);
        }
        self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            let (image, matched) = find(&catalog, source)?;
            let target = match matched {
                Matched::Name(source) => catalog.target(&source.repository, &source.selector),
                Matched::Id => Ok(None),
            };
            let target = target.map_err(ResolveError::from)?;
            catalog.set_name(&name, &image.id, target.as_ref()).map_err(ResolveError::from)?;
            let image = catalog.image(&image.id).map_err(ResolveError::from)?;
            Ok((image, name))
        })
    }
}
