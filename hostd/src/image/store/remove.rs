//! Removing names and images, and then what no image uses any more.

use tempfile::TempDir;

use super::catalog::Catalog;
use super::files::allocated_bytes;
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

/// A removal that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// The image as it was before.
    pub image: Image,
    pub steps: Vec<Removed>,
    /// What the host's file system got back.
    pub reclaimed_bytes: u64,
}

/// Who needs an image: short ids, of which the store knows only that they are told to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUsers {
    pub running: Option<String>,
    pub stopped: Option<String>,
}

/// Why nothing was removed; worded as Docker words it.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("conflict: unable to delete {id} ({how}) - {reason}")]
    Image { id: String, how: &'static str, reason: String },
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {user} is using its \
         referenced image {id}"
    )]
    Name { name: String, id: String, user: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

const FORCIBLE: &str = "must be forced";
const FINAL: &str = "cannot be forced";

impl From<rusqlite::Error> for RemoveError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ImageStore {
    /// Takes a name from an image, and the image itself when that was its last; by id, takes the image and all its
    /// names, of which there may be several only if `force` says so. An image that somebody uses stays: by force it
    /// may lose its names, but not what its users need to start again.
    ///
    /// # Errors
    /// There is no such image, it has more names than may go at once, or it is used.
    pub fn remove(
        &self,
        reference: &str,
        force: bool,
        users: impl Fn(&ImageId) -> ImageUsers,
    ) -> Result<Removal, RemoveError> {
        // A load that publishes meanwhile would find the image known, and then gone.
        let publication = self.lock_publication();
        let (image, mut steps) = self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            let (image, matched) = find(&catalog, reference)?;
            let rules = Rules { users: users(&image.id), force, names: catalog.names_of(&image.id)?, image };
            let going = match matched {
                Matched::Name(name) => rules.by_name(reference, &name)?,
                Matched::Id => rules.by_id()?,
            };
            let steps = take(&catalog, &rules, going)?;
            Ok::<_, RemoveError>((rules.image, steps))
        })?;
        drop(publication);
        let swept = self.sweep()?;
        steps.extend(swept.layers.into_iter().map(Removed::Deleted));
        Ok(Removal { image, steps, reclaimed_bytes: swept.reclaimed_bytes })
    }

    /// Takes away manifests, layers, blobs and disks that no image has and no load or pull relies on.
    pub(super) fn sweep(&self) -> Result<Swept, StoreError> {
        let (layers, trash) = {
            let _publication = self.lock_publication();
            let unused = self.remove_unused_rows()?;
            (unused, self.discard_unknown_files()?)
        };
        let reclaimed_bytes = trash.as_ref().map_or(0, |trash| allocated_bytes(trash.path()));
        // Gigabytes take a while to go: nobody waits for that.
        drop(trash);
        Ok(Swept { layers, reclaimed_bytes })
    }

    /// Who takes layers in pins them before asking whether they are here, and so either keeps one or finds it gone.
    fn remove_unused_rows(&self) -> Result<Vec<Digest>, StoreError> {
        let pinned = self.lock_pinned();
        self.lock_arrived().retain(|digest, _layer| pinned.contains_key(digest));
        self.shared.database.with(|tx| Catalog(tx).remove_unused(|digest| pinned.contains_key(digest)))
    }

    fn discard_unknown_files(&self) -> Result<Option<TempDir>, StoreError> {
        let (mut layers, mut blobs, images) = self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            Ok::<_, StoreError>((catalog.layers()?, catalog.blobs()?, catalog.ids()?))
        })?;
        for arrived in self.lock_arrived().values() {
            layers.insert(arrived.blob.diff_id);
            blobs.insert(arrived.blob.digest);
        }
        self.shared.files.discard_except(&layers, &blobs, &images)
    }
}

/// What a sweep took.
pub(super) struct Swept {
    pub(super) layers: Vec<Digest>,
    pub(super) reclaimed_bytes: u64,
}

/// What may go of one image (moby, `ImageDelete`).
struct Rules {
    image: Image,
    names: Vec<Reference>,
    users: ImageUsers,
    force: bool,
}

impl Rules {
    /// A name may go; the last one, of an image that is used, only by force.
    fn by_name(&self, shown: &str, name: &Reference) -> Result<Vec<Reference>, RemoveError> {
        match self.user() {
            Some(user) if !self.force && is_single(&self.names) => Err(RemoveError::Name {
                name: shown.to_owned(),
                id: self.image.id.short(),
                user: user.to_owned(),
            }),
            _ => Ok(names_going_with(name, &self.names)),
        }
    }

    /// All names go, and the image with them: not while it runs, and only by force if they are several or a stopped
    /// user would lose it.
    fn by_id(&self) -> Result<Vec<Reference>, RemoveError> {
        if let Some(user) = &self.users.running {
            return Err(self.conflict(FINAL, format!("image is being used by running container {user}")));
        }
        if !self.force && !is_single(&self.names) {
            let reason = "image is referenced in multiple repositories".to_owned();
            return Err(self.conflict(FORCIBLE, reason));
        }
        if let Some(user) = &self.users.stopped {
            let reason = format!("image is being used by stopped container {user}");
            if !self.force {
                return Err(self.conflict(FORCIBLE, reason));
            }
            if self.names.is_empty() {
                return Err(self.conflict(FINAL, reason));
            }
        }
        Ok(self.names.clone())
    }

    fn user(&self) -> Option<&str> {
        self.users.running.as_deref().or(self.users.stopped.as_deref())
    }

    fn conflict(&self, how: &'static str, reason: String) -> RemoveError {
        RemoveError::Image { id: self.image.id.short(), how, reason }
    }
}

/// Takes the names, and the image if they were all and nobody uses it.
fn take(catalog: &Catalog<'_>, rules: &Rules, going: Vec<Reference>) -> Result<Vec<Removed>, StoreError> {
    let was_last = going.len() == rules.names.len();
    let mut steps = Vec::new();
    for name in going {
        catalog.remove_name(&name)?;
        steps.push(Removed::Untagged(name.familiar()));
    }
    if was_last && rules.user().is_none() {
        catalog.remove_image(&rules.image.id)?;
        steps.push(Removed::Deleted(rules.image.id.0));
    }
    Ok(steps)
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
