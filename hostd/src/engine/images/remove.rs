//! Removing images, one or all that nobody needs: a container keeps what it is made of.

use std::collections::BTreeMap;

use crate::engine::error::EngineError;
use crate::engine::events::{Actor, EventKind};
use crate::engine::{Engine, Shared};
use crate::image::{Image, ImageId, ImageUsers, Removal, RemoveError, Removed};

/// What a prune took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedImages {
    pub steps: Vec<Removed>,
    /// What the host's file system got back.
    pub reclaimed_bytes: u64,
}

impl Engine {
    /// Removes a name of an image, and with its last name the image. Tells what went.
    ///
    /// # Errors
    /// No such image, or one that a container needs: Docker's rules, but that force takes from a stopped container only
    /// its image's names, not the image disk that it needs to start again.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removed>, EngineError> {
        Ok(self.remove_one(name.to_owned(), force).await?.steps)
    }

    /// Removes the images that no container uses and that fit: those without tags, or also those with (`with_tags`).
    ///
    /// # Errors
    /// The store fails; what was removed until then is.
    pub async fn prune_images(
        &self,
        with_tags: bool,
        fits: impl Fn(&Image) -> bool + Send,
    ) -> Result<PrunedImages, EngineError> {
        let images = self.with_images(|images| Ok(images.list()?)).await?;
        let mut pruned = PrunedImages::default();
        for image in images.iter().filter(|image| (with_tags || image.names.is_empty()) && fits(image)) {
            // By id and by force all its names go; one that came into use, or got a tag meanwhile, stays.
            let removed = self.prune_one(image.id, with_tags).await?;
            pruned.steps.extend(removed.iter().flat_map(|removal| removal.steps.iter().cloned()));
            pruned.reclaimed_bytes += removed.map_or(0, |removal| removal.reclaimed_bytes);
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.reclaimed_bytes.to_string())]);
        self.events().publish(EventKind::Image, "prune", Actor { id: String::new(), attributes });
        Ok(pruned)
    }

    async fn remove_one(&self, name: String, force: bool) -> Result<Removal, EngineError> {
        // No container appears between the look and the removal.
        let _alone = self.shared.image_removal.write().await;
        let engine = self.clone();
        let removal = self
            .with_images(move |images| Ok(images.remove(&name, force, |id| engine.shared.users_of(*id))?))
            .await?;
        self.publish_removal(&removal);
        Ok(removal)
    }

    /// `None` if the image is needed, or gone already.
    async fn prune_one(&self, id: ImageId, with_tags: bool) -> Result<Option<Removal>, EngineError> {
        let _alone = self.shared.image_removal.write().await;
        let engine = self.clone();
        let removal = self
            .with_images(move |images| {
                let needed = engine.shared.users_of(id) != ImageUsers::default();
                let reference = id.to_string();
                let tagged = images.resolve(&reference).is_ok_and(|image| !image.names.is_empty());
                if needed || (tagged && !with_tags) {
                    return Ok(None);
                }
                match images.remove(&reference, true, |id| engine.shared.users_of(*id)) {
                    Ok(removal) => Ok(Some(removal)),
                    Err(RemoveError::Store(error)) => Err(error.into()),
                    Err(_gone) => Ok(None),
                }
            })
            .await?;
        removal.iter().for_each(|removal| self.publish_removal(removal));
        Ok(removal)
    }

    fn publish_removal(&self, removal: &Removal) {
        let id = removal.image.id.to_string();
        for step in &removal.steps {
            let action = match step {
                Removed::Untagged(_) => "untag",
                Removed::Deleted(digest) if *digest == removal.image.id.0 => "delete",
                // Docker tells of images, not of layers.
                Removed::Deleted(_) => continue,
            };
            self.publish_image(action, id.clone(), id.clone(), Some(&removal.image));
        }
    }
}

impl Shared {
    fn users_of(&self, id: ImageId) -> ImageUsers {
        let mut users = ImageUsers::default();
        for container in self.containers().values().filter(|container| container.has_image(id)) {
            let running = container.status.borrow().state.is_up();
            let user = if running { &mut users.running } else { &mut users.stopped };
            user.get_or_insert_with(|| container.id.short().to_owned());
        }
        users
    }
}

impl From<RemoveError> for EngineError {
    fn from(error: RemoveError) -> Self {
        match error {
            RemoveError::Resolve(error) => error.into(),
            RemoveError::Image { .. } | RemoveError::Name { .. } => Self::conflict(error.to_string()),
            RemoveError::Store(cause) => Self::internal("cannot remove the image", &cause),
        }
    }
}
