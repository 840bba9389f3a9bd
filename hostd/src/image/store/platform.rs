//! One name for several platforms: which of its images is meant.

use super::catalog::Catalog;
use super::{ImageStore, Matched, ResolveError, find};
use crate::image::manifest::{Document, Platform, RawDocument};
use crate::image::record::{Image, ImageId};
use crate::image::reference::Reference;

impl ImageStore {
    /// Finds an image as [`ImageStore::resolve`] does; with `platform`, the one that the same name has for it.
    ///
    /// # Errors
    /// The text leads to no image, or to none for that platform.
    pub fn resolve_for(&self, reference: &str, platform: Option<&Platform>) -> Result<Image, ResolveError> {
        let (image, matched) = self.shared.database.with(|tx| find(&Catalog(tx), reference))?;
        let name = match &matched {
            Matched::Name(name) => Some(name),
            Matched::Id => None,
        };
        let id = self.for_platform(image.id, name, platform)?;
        self.shared.database.with(|tx| Ok(Catalog(tx).image(&id)?))
    }

    /// The image itself if it is for the platform, or the one that the same name's index has for it.
    pub(super) fn for_platform(
        &self,
        id: ImageId,
        name: Option<&Reference>,
        platform: Option<&Platform>,
    ) -> Result<ImageId, ResolveError> {
        let Some(wanted) = platform else { return Ok(id) };
        let image = self.shared.database.with(|tx| Catalog(tx).image(&id))?;
        let offered = Platform {
            os: if image.os.is_empty() { "linux".to_owned() } else { image.os },
            architecture: image.architecture,
            variant: image.variant.unwrap_or_default(),
        };
        if wanted.distance_to(&offered).is_some() {
            return Ok(id);
        }
        let shown = name.map_or_else(|| id.to_string(), Reference::familiar);
        let missing = || ResolveError::Platform { image: shown, platform: wanted.clone() };
        let target = name.map(|name| self.target(name)).transpose()?.flatten();
        let Some(Ok(Document::Index(index))) = target.as_ref().map(RawDocument::parse) else {
            return Err(missing());
        };
        let Ok(manifest) = index.choose(wanted) else { return Err(missing()) };
        self.image_of_manifest(&manifest.digest)?.ok_or_else(missing)
    }
}
