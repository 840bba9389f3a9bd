//! Images as containers need them: found for a new one, kept while one is there.

use super::Engine;
use super::container::Container;
use super::error::EngineError;
use crate::image::{Image, ImageStore, RemoveError, Removed, ResolveError};

impl Engine {
    pub(super) async fn resolve_image(&self, reference: &str) -> Result<Image, EngineError> {
        let reference = reference.to_owned();
        self.with_images(move |images| images.resolve(&reference).map_err(EngineError::from)).await
    }

    /// Removes a name of an image, and with its last name the image. Tells what went.
    ///
    /// # Errors
    /// No such image, or one that a container needs: Docker's rules, but that force does not take the image from a
    /// stopped container, which needs its image disk to start again.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removed>, EngineError> {
        // No container appears between the look and the removal.
        let _alone = self.shared.image_removal.write().await;
        let (engine, name) = (self.clone(), name.to_owned());
        self.with_images(move |images| {
            let image = images.resolve(&name)?;
            let containers = engine.shared.containers();
            let user = containers.values().find(|container| container.image_id == image.id);
            if let Some(user) = user.filter(|_| takes_the_image(&image, &name)) {
                return Err(in_use(&image, &name, force, user));
            }
            drop(containers);
            images.remove(&name, force).map_err(EngineError::from)
        })
        .await
    }

    async fn with_images<T: Send + 'static>(
        &self,
        work: impl FnOnce(ImageStore) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let images = self.shared.images.clone();
        let working = tokio::task::spawn_blocking(move || work(images)).await;
        working.map_err(|error| EngineError::internal("the image store failed", &error))?
    }
}

/// Whether removing that name removes the image: one name among several only goes itself.
fn takes_the_image(image: &Image, name: &str) -> bool {
    image.names.len() <= 1 || is_by_id(image, name)
}

fn is_by_id(image: &Image, name: &str) -> bool {
    image.id.to_string().trim_start_matches("sha256:").starts_with(name.trim_start_matches("sha256:"))
}

fn in_use(image: &Image, name: &str, force: bool, user: &Container) -> EngineError {
    let (container, id) = (user.id.short(), image.id.0.short());
    let unable = format!("conflict: unable to delete {id}");
    EngineError::conflict(if user.current().state.is_running() {
        format!("{unable} (cannot be forced) - image is being used by running container {container}")
    } else if is_by_id(image, name) || force {
        let must = if force { "cannot be forced" } else { "must be forced" };
        format!("{unable} ({must}) - image is being used by stopped container {container}")
    } else {
        format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is \
             using its referenced image {id}"
        )
    })
}

impl From<ResolveError> for EngineError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NotFound { .. } => Self::not_found(error.to_string()),
            ResolveError::Invalid(_) | ResolveError::Ambiguous { .. } => Self::invalid(error.to_string()),
            ResolveError::Store(cause) => Self::internal("cannot read the image store", &cause),
        }
    }
}

impl From<RemoveError> for EngineError {
    fn from(error: RemoveError) -> Self {
        match error {
            RemoveError::Resolve(error) => error.into(),
            RemoveError::Conflict { .. } => Self::conflict(error.to_string()),
            RemoveError::Store(cause) => Self::internal("cannot remove the image", &cause),
        }
    }
}
