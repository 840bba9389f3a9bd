//! What a new container has mounted, with what others have.

use std::sync::Arc;

use super::plan::{FoundImages, Inherited, plan};
use super::point::MountPoint;
use super::request::MountSource;
use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::engine::spec::ContainerSpec;

impl Engine {
    /// What a container with this description, complete with its image's part, has mounted.
    ///
    /// # Errors
    /// No such container to take volumes from, no such image, two requests with one target.
    pub(in crate::engine) async fn plan_mounts(
        &self,
        spec: &ContainerSpec,
    ) -> Result<Arc<[MountPoint]>, EngineError> {
        let inherited = spec.mounts.volumes_from.iter().map(|asked| {
            let other = self.find(&asked.container)?;
            Ok(Inherited { asked: asked.clone(), points: other.mounts.to_vec() })
        });
        let inherited: Vec<Inherited> = inherited.collect::<Result<_, EngineError>>()?;
        let images = self.find_images(spec).await?;
        plan(spec, inherited, &images, || hex::encode(rand::random::<[u8; 32]>())).map(Arc::from)
    }

    /// Those that are to be mounted.
    async fn find_images(&self, spec: &ContainerSpec) -> Result<FoundImages, EngineError> {
        let mut found = FoundImages::new();
        for request in &spec.mounts.requests {
            if let MountSource::Image(source) = &request.source {
                let image = self.resolve_image(&source.reference).await?;
                found.insert(source.reference.clone(), image.id);
            }
        }
        Ok(found)
    }
}
