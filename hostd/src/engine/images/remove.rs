//! Removing an image: a container keeps what it is made of.

use crate::engine::Engine;
use crate::engine::container::Container;
use crate::engine::error::EngineError;
use crate::image::{Image, RemoveError, Removed};

impl Engine {
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

impl From<RemoveError> for EngineError {
    fn from(error: RemoveError) -> Self {
        match error {
            RemoveError::Resolve(error) => error.into(),
            RemoveError::Conflict { .. } => Self::conflict(error.to_string()),
            RemoveError::Store(cause) => Self::internal("cannot remove the image", &cause),
        }
    }
}
