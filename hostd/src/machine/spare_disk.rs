//! A machine's spare disk: room for the disks of containers that come into it while it runs.
//!
//! A disk of a machine's own for each would cost a device in every boot, and an emulated machine has few places for them.
//! So there is one, larger than any file, of which nothing is bound when the machine starts. It is divided into rooms, and
//! a room into the parts that the guest is told of. Who has which room is the engine's business.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use berth_protocol::agent::DiskPart;
use berth_vmm::config::{Accelerator, DiskAccess, DiskConfig, MAX_EMULATED_DEVICES, MachineConfig};
use berth_vmm::control::{Reply, Request};
use berth_vmm::handover::FILES_IN_PARCEL;

use super::control::ControlClient;
use super::jail::{self, Cell};
use super::requests::{hand_over, request};
use super::spares::STANDARD_DEVICES;
use super::{Disk, MachineError};

/// Containers that a machine has room for beside its own. The guest's kernel numbers the parts of a disk up to 15
/// without further ado.
pub(crate) const ROOMS: usize = 7;
/// An image disk and a scratch disk.
const PARTS_OF_ROOM: usize = 2;
/// Of the first part of each room, further parts in turn: numbers of parts end at 255.
pub(crate) const MAX_FURTHER_PARTS: usize = 32;
const _: () = assert!(ROOMS * (PARTS_OF_ROOM + MAX_FURTHER_PARTS) <= 255);
/// As large as a file can be on the host's usual file system.
const PART_BYTES: u64 = 16 << 40;
const CAPACITY_BYTES: u64 = PART_BYTES * (ROOMS * PARTS_OF_ROOM) as u64;

/// How to use it; the machine may end meanwhile.
#[derive(Debug)]
pub(crate) struct SpareDisk {
    pub(super) machine_id: String,
    pub(super) directory: PathBuf,
    pub(super) control: Arc<ControlClient>,
    pub(super) index: usize,
}

/// A part with files behind it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BoundPart {
    /// As the guest calls the disk: "vdc".
    pub(crate) disk: String,
    pub(crate) part: DiskPart,
}

/// To be added to the machine's disks as the last of them.
pub(super) fn config() -> DiskConfig {
    DiskConfig { capacity_bytes: CAPACITY_BYTES, access: DiskAccess::ReadWrite, extents: Vec::new() }
}

/// Whether a machine has a place for one more device.
pub(super) fn fits(config: &MachineConfig) -> bool {
    let devices = config.disks.len() + config.network_cards.len() + config.shares.len();
    config.accelerator == Accelerator::Kvm || devices + STANDARD_DEVICES < MAX_EMULATED_DEVICES
}

/// Which of its disks it is, if the machine has one.
pub(super) fn index_in(config: &MachineConfig) -> Option<usize> {
    let is_spare = |disk: &DiskConfig| *disk == self::config();
    config.disks.iter().position(is_spare)
}

impl SpareDisk {
    /// Puts files behind both parts of a room that nobody has.
    ///
    /// # Errors
    /// A file that is larger than a part, or that the machine does not take. [`Self::unbind`] takes back what was bound.
    pub(crate) async fn bind(
        &self,
        room: usize,
        disks: &[Disk; PARTS_OF_ROOM],
    ) -> Result<[BoundPart; PARTS_OF_ROOM], MachineError> {
        let [lower, scratch] = disks;
        Ok([self.bind_part(room, 0, lower).await?, self.bind_part(room, 1, scratch).await?])
    }

    async fn bind_part(&self, room: usize, part: usize, disk: &Disk) -> Result<BoundPart, MachineError> {
        let length_bytes = disk.extents.iter().map(|extent| extent.length_bytes).sum();
        if length_bytes > PART_BYTES {
            let message = format!("a disk of {length_bytes} bytes is larger than a part of the spare disk");
            return Err(MachineError::Refused { id: self.machine_id.clone(), message });
        }
        self.hand_over(disk).await?;
        let start_bytes = start_of(room, part);
        let (access, extents) = (Some(disk.access), disk.extents.clone());
        self.request(Request::BindDisk { disk: self.index, start_bytes, access, extents }).await?;
        let number = u32::try_from(number_of(room, part)).expect("a few parts");
        let part = DiskPart { number, start_bytes, length_bytes };
        Ok(BoundPart { disk: self.name(), part })
    }

    /// A machine in the jail opens nothing by itself.
    async fn hand_over(&self, disk: &Disk) -> Result<(), MachineError> {
        if !Cell::is_there(&self.directory) {
            return Ok(());
        }
        let (extents, access) = (disk.extents.clone(), disk.access);
        let opening = tokio::task::spawn_blocking(move || jail::open_extents(&extents, access)).await;
        let opened = opening.map_err(std::io::Error::other).flatten();
        let opened = opened.map_err(super::io_error(&self.machine_id, "open a disk's files"))?;
        let files: Vec<_> = opened.iter().map(|(path, file)| (path.as_path(), file.as_fd())).collect();
        for parcel in files.chunks(FILES_IN_PARCEL) {
            hand_over(&self.control, &self.machine_id, &self.directory, parcel).await?;
        }
        Ok(())
    }

    /// Takes the files of a room away. Where there are none there is nothing to do.
    ///
    /// # Errors
    /// The machine is gone, or its guest keeps them busy.
    pub(crate) async fn unbind(&self, room: usize) -> Result<(), MachineError> {
        for part in 0..PARTS_OF_ROOM {
            let start_bytes = start_of(room, part);
            self.request(Request::UnbindDisk { disk: self.index, start_bytes }).await?;
        }
        Ok(())
    }

    fn name(&self) -> String {
        let letter = u8::try_from(self.index).map_or('?', |index| char::from(b'a' + index));
        format!("vd{letter}")
    }

    async fn request(&self, wanted: Request) -> Result<Reply, MachineError> {
        request(&self.control, &self.machine_id, &self.directory, wanted).await
    }
}

/// What the first of the further parts of a room's first part is called; the others follow it.
pub(crate) fn further_number(room: usize) -> u32 {
    u32::try_from(ROOMS * PARTS_OF_ROOM + room * MAX_FURTHER_PARTS + 1).expect("a few parts")
}

fn number_of(room: usize, part: usize) -> usize {
    room * PARTS_OF_ROOM + part + 1
}

fn start_of(room: usize, part: usize) -> u64 {
    PART_BYTES * (room * PARTS_OF_ROOM + part) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_side_by_side_on_the_disk() {
        let mut end = 0;
        for room in 0..ROOMS {
            for part in 0..PARTS_OF_ROOM {
                assert_eq!(start_of(room, part), end);
                end += PART_BYTES;
            }
        }
        assert_eq!(end, config().capacity_bytes);
        assert_eq!((number_of(0, 0), number_of(ROOMS - 1, PARTS_OF_ROOM - 1)), (1, 14));
        assert_eq!((further_number(0), further_number(1)), (15, 47));
        config().validate().unwrap();
    }
}
