//! What a new container has mounted, with what others have.

use std::sync::Arc;

use super::plan::{Inherited, plan};
use super::point::MountPoint;
use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::engine::spec::ContainerSpec;

impl Engine {
    /// What a container with this description, complete with its image's part, has mounted.
    ///
    /// # Errors
    /// No such container to take volumes from, two requests with one target.
    pub(in crate::engine) fn plan_mounts(
        &self,
        spec: &ContainerSpec,
    ) -> Result<Arc<[MountPoint]>, EngineError> {
        let inherited = spec.mounts.volumes_from.iter().map(|asked| {
            let other = self.find(&asked.container)?;
            Ok(Inherited { asked: asked.clone(), points: other.mounts.to_vec() })
        });
        let inherited: Vec<Inherited> = inherited.collect::<Result<_, EngineError>>()?;
        plan(spec, inherited, || hex::encode(rand::random::<[u8; 32]>())).map(Arc::from)
    }
}
