//! What a new container has mounted, with what others have.

use std::sync::Arc;

use super::plan::{Inherited, plan};
use super::point::MountPoint;
use crate::engine::Engine;
use crate::engine::error::{EngineError, ErrorKind};
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
        let points = plan(spec, inherited, || hex::encode(rand::random::<[u8; 32]>()))?;
        match points.iter().find_map(MountPoint::volume) {
            Some(volume) => {
                let message = format!("volume {}: volumes are not supported yet", volume.name);
                Err(EngineError::new(ErrorKind::NotSupported, message))
            }
            None => Ok(points.into()),
        }
    }
}
