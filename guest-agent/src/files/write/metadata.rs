//! Owner, attributes, mode and times of a file, given to what a descriptor holds and never to a name.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use berth_protocol::agent::{FileAttribute, FileKind, FileMember};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, setxattr, utimensat,
};
use rustix::io::Errno;

use crate::container::ids::IdMaps;
use crate::failure::Failure;

/// Who a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user_id: u32,
    pub(crate) group_id: u32,
}

impl Owner {
    /// The container's root.
    pub(super) const ROOT: Self = Self { user_id: 0, group_id: 0 };

    /// Who that is outside of the container.
    ///
    /// # Errors
    /// INVALID_REQUEST for somebody whom the container does not have.
    pub(super) fn outside(self, ids: &IdMaps) -> Result<Self, Failure> {
        match (ids.users.outside(self.user_id), ids.groups.outside(self.group_id)) {
            (Some(user_id), Some(group_id)) => Ok(Self { user_id, group_id }),
            _ => {
                let Self { user_id, group_id } = self;
                Err(Failure::invalid(format!("the container has no user {user_id} or no group {group_id}")))
            }
        }
    }

    /// Makes a file this owner's.
    pub(super) fn own(self, file: impl AsFd) -> rustix::io::Result<()> {
        let (user, group) = (Uid::from_raw(self.user_id), Gid::from_raw(self.group_id));
        chownat(file, "", Some(user), Some(group), AtFlags::EMPTY_PATH)
    }
}

pub(super) struct Metadata {
    owner: Owner,
    mode: u32,
    has_mode: bool,
    modified: Timespec,
    attributes: Vec<FileAttribute>,
}

impl Metadata {
    /// The member's own, but for another owner.
    ///
    /// # Errors
    /// INVALID_REQUEST for somebody whom the container does not have.
    pub(super) fn of(member: &FileMember, owner: Option<Owner>, ids: &IdMaps) -> Result<Self, Failure> {
        let own = Owner { user_id: member.user_id, group_id: member.group_id };
        Ok(Self {
            owner: owner.unwrap_or(own).outside(ids)?,
            mode: member.mode & 0o7777,
            has_mode: member.kind() != FileKind::SymbolicLink,
            modified: Timespec {
                tv_sec: member.modified_unix_s,
                tv_nsec: member.modified_ns.min(999_999_999).into(),
            },
            attributes: member.attributes.clone(),
        })
    }

    /// All but the times. A change of owner takes capabilities and set-ID bits away, so it comes first.
    pub(super) fn apply(&self, file: impl AsFd) -> io::Result<()> {
        self.owner.own(&file)?;
        let own_path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        for FileAttribute { name, value } in &self.attributes {
            match setxattr(&own_path, name.as_slice(), value, XattrFlags::empty()) {
                // Not every file system keeps every attribute, as with Docker.
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(errno) => {
                    let name = String::from_utf8_lossy(name);
                    return Err(io::Error::other(format!("set the attribute {name}: {errno}")));
                }
            }
        }
        if self.has_mode {
            chmodat(CWD, &own_path, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        }
        Ok(())
    }

    pub(super) fn set_times(&self, file: impl AsFd) -> io::Result<()> {
        let times = Timestamps { last_access: self.modified, last_modification: self.modified };
        Ok(utimensat(file, "", &times, AtFlags::EMPTY_PATH)?)
    }
}
