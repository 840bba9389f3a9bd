//! Images as mounts: their disks lie behind that of the container's own image on one disk of the machine's, each a part of
//! it. A device for each would cost places, of which an emulated machine has few.

use std::collections::{BTreeMap, BTreeSet};

use berth_protocol::agent::{self, DiskPart};

use super::point::{ImagePoint, MountPoint};
use crate::engine::Shared;
use crate::engine::error::EngineError;
use crate::image::ImageId;
use crate::machine::Disk;

/// Different ones in one container: the parts of a machine's disk have numbers up to 255, also where eight containers share
/// it.
pub(super) const MAX_IMAGES: usize = crate::machine::MAX_FURTHER_PARTS;

/// Where on the image disk of a container everything lies; nothing if the disk is its own image's alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::engine) struct ImageParts {
    pub(in crate::engine) own: Option<DiskPart>,
    mounted: BTreeMap<ImageId, DiskPart>,
}

/// Those that are mounted, each once.
pub(super) fn distinct(points: &[MountPoint]) -> BTreeSet<ImageId> {
    points.iter().filter_map(MountPoint::image).map(|image| image.id).collect()
}

impl ImageParts {
    /// Puts the disks of the images that are mounted behind the container's own. Blocks.
    ///
    /// # Errors
    /// An image that has no disk.
    pub(in crate::engine) fn append(
        shared: &Shared,
        points: &[MountPoint],
        disk: &mut Disk,
    ) -> Result<Self, EngineError> {
        let mut lengths = Vec::new();
        let own_bytes = disk.extents.iter().map(|extent| extent.length_bytes).sum();
        for id in distinct(points) {
            let mounted = shared.images.disk(&id).map_err(|error| {
                EngineError::internal(&format!("cannot find the disk of the mounted image {id}"), &error)
            })?;
            lengths.push((id, mounted.total_bytes));
            disk.extents.extend(mounted.extents);
        }
        Ok(if lengths.is_empty() { Self::default() } else { Self::one_after_the_other(own_bytes, lengths) })
    }

    fn one_after_the_other(own_bytes: u64, mounted: Vec<(ImageId, u64)>) -> Self {
        let own = DiskPart { number: 1, start_bytes: 0, length_bytes: own_bytes };
        let mut end_bytes = own_bytes;
        let parts = mounted.into_iter().zip(2..).map(|((id, length_bytes), number)| {
            let part = DiskPart { number, start_bytes: end_bytes, length_bytes };
            end_bytes += length_bytes;
            (id, part)
        });
        let mounted = parts.collect();
        Self { own: Some(own), mounted }
    }

    /// The same where the disk is itself a part of another, and who mounts parts behind its own numbers them from
    /// `further_number` on.
    pub(in crate::engine) fn on(self, whole: &DiskPart, further_number: u32) -> Self {
        let own_bytes = self.own.map_or(whole.length_bytes, |own| own.length_bytes);
        let own = DiskPart { length_bytes: own_bytes, ..*whole };
        let moved = self.mounted.into_iter().zip(further_number..).map(|((id, part), number)| {
            (id, DiskPart { number, start_bytes: whole.start_bytes + part.start_bytes, ..part })
        });
        Self { own: Some(own), mounted: moved.collect() }
    }

    /// What the agent is to mount for a point; nothing for an image that is not on the disk.
    pub(super) fn mount(&self, point: &MountPoint, image: &ImagePoint) -> Option<agent::Mount> {
        Some(agent::Mount {
            kind: "disk".into(),
            target: point.target.clone(),
            path_inside: image.source.subpath.clone(),
            disk_part: Some(*self.mounted.get(&image.id)?),
            ..agent::Mount::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn id(text: &str) -> ImageId {
        ImageId(Digest::of(text.as_bytes()))
    }

    #[test]
    fn parts_lie_behind_each_other_wherever_the_disk_is() {
        let (one, other) = (id("one"), id("other"));
        let here = ImageParts::one_after_the_other(8192, vec![(one, 4096), (other, 12288)]);
        let part = |number, start_bytes, length_bytes| DiskPart { number, start_bytes, length_bytes };
        assert_eq!(here.own, Some(part(1, 0, 8192)));
        assert_eq!((here.mounted[&one], here.mounted[&other]), (part(2, 8192, 4096), part(3, 12288, 12288)));
        let there = here.on(&part(5, 1 << 40, 8192 + 4096 + 12288), 100);
        assert_eq!(there.own, Some(part(5, 1 << 40, 8192)), "its own image's length, not that of all");
        let starts: BTreeSet<_> =
            there.mounted.values().map(|part| (part.start_bytes - (1 << 40), part.length_bytes)).collect();
        assert_eq!(starts, [(8192, 4096), (12288, 12288)].into());
        let numbers: BTreeSet<_> = there.mounted.values().map(|part| part.number).collect();
        assert_eq!(numbers, [100, 101].into());
        let alone = ImageParts::default().on(&part(5, 1 << 40, 4096), 100);
        assert_eq!((alone.own, alone.mounted.len()), (Some(part(5, 1 << 40, 4096)), 0));
    }
}
