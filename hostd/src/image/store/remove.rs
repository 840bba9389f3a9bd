//! Removing names and images, and then what no image uses any more.

use tempfile::TempDir;

use super::catalog::Catalog;
use super::{ImageStore, Matched, ResolveError, StoreError, find};
use crate::image::digest::Digest;
use crate::image::record::{Image, ImageId};
use crate::image::reference::{Reference, Selector};

/// What a removal did, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A familiar name that leads nowhere now.
    Untagged(String),
    /// An image or a layer that is gone.
    Deleted(Digest),
}

/// Why nothing was removed; worded as Docker words it.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
    )]
    Conflict { id: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for RemoveError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ImageStore {
    /// Takes a name from an image, and the image itself when that was its last; by id, takes the image and all its
    /// names, of which there may be several only if `force` says so.
    ///
    /// Whether containers use the image is for the caller to know.
    ///
    /// # Errors
    /// There is no such image, or it has more names than may go at once.
    pub fn remove(&self, reference: &str, force: bool) -> Result<Vec<Removed>, RemoveError> {
        let mut removed = self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            let (image, matched) = find(&catalog, reference)?;
            remove_names(&catalog, &image, matched, force)
        })?;
        removed.extend(self.sweep()?.into_iter().map(Removed::Deleted));
        Ok(removed)
    }

    /// Takes away layers, blobs and disks that no image has and no load relies on. Returns the layers.
    pub(super) fn sweep(&self) -> Result<Vec<Digest>, StoreError> {
        let (unused, trash) = {
            let _publication = self.lock_publication();
            let unused = self.remove_unused_rows()?;
            (unused, self.discard_unknown_files()?)
        };
        // Gigabytes take a while to go: nobody waits for that.
        drop(trash);
        Ok(unused)
    }

    /// A load pins its layers before it asks for their rows: it either keeps a row or finds it gone.
    fn remove_unused_rows(&self) -> Result<Vec<Digest>, StoreError> {
        let pinned = self.lock_pinned();
        self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            let mut unused = catalog.unused_layers()?;
            unused.retain(|layer| !pinned.contains_key(layer));
            unused.iter().try_for_each(|layer| catalog.remove_layer(layer))?;
            Ok(unused)
        })
    }

    fn discard_unknown_files(&self) -> Result<Option<TempDir>, StoreError> {
        let (layers, blobs, images) = self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            Ok::<_, StoreError>((catalog.layers()?, catalog.blobs()?, catalog.ids()?))
        })?;
        self.shared.files.discard_except(&layers, &blobs, &images)
    }
}

fn remove_names(
    catalog: &Catalog<'_>,
    image: &Image,
    matched: Matched,
    force: bool,
) -> Result<Vec<Removed>, RemoveError> {
    let names = catalog.names_of(&image.id)?;
    let going = match matched {
        Matched::Name(name) => names_going_with(&name, &names),
        Matched::Id if force || is_single(&names) => names.clone(),
        Matched::Id => return Err(RemoveError::Conflict { id: image.id.short() }),
    };
    let mut removed = Vec::new();
    for name in &going {
        catalog.remove_name(name)?;
        removed.push(Removed::Untagged(name.familiar()));
    }
    if going.len() == names.len() {
        remove_image(catalog, &image.id, &mut removed)?;
    }
    Ok(removed)
}

fn remove_image(catalog: &Catalog<'_>, id: &ImageId, removed: &mut Vec<Removed>) -> Result<(), StoreError> {
    catalog.remove_image(id)?;
    removed.push(Removed::Deleted(id.0));
    Ok(())
}

/// A tag takes the manifest digests of its repository with it when no other tag of the repository is left: they came
/// with it, and nobody would think of removing them.
fn names_going_with(name: &Reference, names: &[Reference]) -> Vec<Reference> {
    let is_tag = |name: &Reference| matches!(name.selector, Selector::Tag(_));
    let other_tag = |other: &Reference| other != name && other.repository == name.repository && is_tag(other);
    let alone = is_tag(name) && !names.iter().any(other_tag);
    let goes = |other: &&Reference| *other == name || (alone && other.repository == name.repository);
    names.iter().filter(goes).cloned().collect()
}

/// Whether all names are one tag of one repository, and digests of it.
fn is_single(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|name| matches!(name.selector, Selector::Tag(_))).count();
    tags <= 1 && names.windows(2).all(|pair| pair[0].repository == pair[1].repository)
}
