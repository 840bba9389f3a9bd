//! Images as containers need them, and what clients ask about them: one use case a file.

mod distribution;
mod import;
mod load;
mod pull;
mod push;
mod remove;
mod save;
mod tag;

pub use self::distribution::Distribution;
pub(super) use self::pull::Flights;
pub use self::pull::{LayerStep, PullRequest, PullStep, PullTarget, Steps};
pub(super) use self::push::Turns as PushTurns;
pub use self::push::{LayerState, PushRequest, PushStep};
pub use self::remove::PrunedImages;

use super::Engine;
use super::error::EngineError;
use crate::image::{Image, ImageStore, ResolveError, StoreError};

impl Engine {
    pub(super) async fn resolve_image(&self, reference: &str) -> Result<Image, EngineError> {
        let reference = reference.to_owned();
        self.with_images(move |images| images.resolve(&reference).map_err(EngineError::from)).await
    }

    /// Runs `work` on the image store, off the threads that answer requests.
    pub(super) async fn with_images<T: Send + 'static>(
        &self,
        work: impl FnOnce(ImageStore) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let images = self.shared.images.clone();
        let working = tokio::task::spawn_blocking(move || work(images)).await;
        working.map_err(|error| EngineError::internal("the image store failed", &error))?
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::internal("the image store failed", &error)
    }
}

impl From<ResolveError> for EngineError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NotFound { .. } | ResolveError::Platform { .. } => {
                Self::not_found(error.to_string())
            }
            ResolveError::Invalid(_) | ResolveError::Ambiguous { .. } => Self::invalid(error.to_string()),
            ResolveError::Store(cause) => Self::internal("cannot read the image store", &cause),
        }
    }
}
