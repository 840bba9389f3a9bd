//! The volumes of a container: taken when it is made, in use while it runs, given back when it is gone.

use std::collections::BTreeMap;

use super::point::{MountPoint, VolumePoint};
use crate::engine::Shared;
use crate::engine::container::Container;
use crate::engine::error::{EngineError, ErrorKind};
use crate::engine::events::{Actor, EventKind};
use crate::engine::identity::ContainerId;
use crate::engine::record::ContainerRecord;
use crate::engine::user_namespace::UserNamespace;
use crate::engine::volumes::{ANONYMOUS_LABEL, AdoptedVolume, MountedVolume, VolumeRequest};

/// The volumes of a run, by their names. They are in use until this is dropped.
#[derive(Debug, Default)]
pub(in crate::engine) struct MountedVolumes {
    mounted: BTreeMap<String, MountedVolume>,
    /// In place of those of a run that an earlier daemon started.
    _adopted: Vec<AdoptedVolume>,
}

impl MountedVolumes {
    pub(super) fn get(&self, name: &str) -> Option<&MountedVolume> {
        self.mounted.get(name)
    }
}

impl Shared {
    /// Makes what a new container's volumes lack, and holds all of them for it; new ones get what its image has there.
    ///
    /// # Errors
    /// A volume that cannot be made. Those before it are held.
    pub(in crate::engine) async fn hold_volumes(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        let ids = UserNamespace::of(self.settings.user_namespace.as_ref(), &record.spec)?;
        for point in record.mounts.iter() {
            let Some(volume) = point.volume() else { continue };
            self.hold_volume(record, volume).await?;
            if let Some(ids) = ids {
                self.volumes.give_to_root_of(&volume.name, ids).await?;
            }
            if volume.copy {
                let (image, place) = (record.image_id, point.target.as_str());
                self.volumes.fill(&self.images, &volume.name, image, place, ids).await?;
            }
        }
        Ok(())
    }

    async fn hold_volume(&self, record: &ContainerRecord, volume: &VolumePoint) -> Result<(), EngineError> {
        let mut labels = volume.labels.clone();
        if volume.anonymous {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let request = VolumeRequest {
            name: Some(volume.name.clone()),
            driver: volume.driver.clone(),
            options: volume.driver_options.clone(),
            labels,
        };
        self.volumes.ensure(request, &record.id).await.map(drop)
    }

    /// What a container's record says of its volumes, to a daemon that starts.
    pub(in crate::engine) fn hold_volumes_again(&self, record: &ContainerRecord) {
        for volume in record.mounts.iter().filter_map(MountPoint::volume) {
            if !self.volumes.refer(&volume.name, &record.id) {
                tracing::warn!(container = %record.id, volume = volume.name, "a container's volume is gone");
            }
        }
    }

    /// A container that is gone for good has none any more.
    pub(in crate::engine) fn give_back_volumes(&self, id: &ContainerId, mounts: &[MountPoint]) {
        for volume in mounts.iter().filter_map(MountPoint::volume) {
            self.volumes.release(&volume.name, id);
        }
    }

    /// Removes those that nobody named and nobody has any more.
    pub(in crate::engine) async fn remove_anonymous(&self, mounts: &[MountPoint]) {
        for volume in mounts.iter().filter_map(MountPoint::volume).filter(|volume| volume.anonymous) {
            match self.volumes.remove(&volume.name).await {
                // Another container has it, or it was never made.
                Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {}
                Err(error) => {
                    tracing::warn!(volume = volume.name, %error, "cannot remove an anonymous volume");
                }
                Ok(()) => {}
            }
        }
    }

    /// Takes a container's volumes into use for a run.
    ///
    /// # Errors
    /// A volume that is gone, or that the host cannot give.
    pub(in crate::engine) async fn mount_volumes(
        &self,
        mounts: &[MountPoint],
    ) -> Result<MountedVolumes, EngineError> {
        let mut mounted = MountedVolumes::default();
        for volume in mounts.iter().filter_map(MountPoint::volume) {
            if mounted.get(&volume.name).is_none() {
                mounted.mounted.insert(volume.name.clone(), self.volumes.mount(&volume.name).await?);
            }
        }
        Ok(mounted)
    }

    /// The same for a run that an earlier daemon started: its machine has them.
    pub(in crate::engine) fn adopt_volumes(&self, mounts: &[MountPoint]) -> MountedVolumes {
        let volumes = mounts.iter().filter_map(MountPoint::volume);
        let adopted = volumes.map(|volume| self.volumes.adopt(&volume.name)).collect();
        MountedVolumes { mounted: BTreeMap::new(), _adopted: adopted }
    }
}

impl Container {
    /// The events of its volumes at the beginning of a run.
    pub(in crate::engine) fn publish_mounted(&self) {
        for (point, volume) in self.volumes() {
            let more = [
                ("destination", point.target.clone()),
                ("propagation", String::new()),
                ("read/write", (!point.read_only).to_string()),
            ];
            self.publish_volume("mount", volume, more);
        }
    }

    /// And at its end.
    pub(in crate::engine) fn publish_unmounted(&self) {
        for (_, volume) in self.volumes() {
            self.publish_volume("unmount", volume, []);
        }
    }

    fn volumes(&self) -> impl Iterator<Item = (&MountPoint, &VolumePoint)> {
        self.mounts.iter().filter_map(|point| point.volume().map(|volume| (point, volume)))
    }

    fn publish_volume(
        &self,
        action: &'static str,
        volume: &VolumePoint,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) {
        let own = [("container", self.id.to_string()), ("driver", volume.driver.clone())];
        let attributes = own.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
        self.events.publish(EventKind::Volume, action, Actor { id: volume.name.clone(), attributes });
    }
}
