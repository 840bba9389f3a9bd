//! What a volume takes over of an image: a directory of the image's, written into the volume's by the host.
//!
//! A guest may have the volume at the same time, and do to it what it likes. So every name is used in a directory that is
//! open, no link is followed, and each thing is made whole under a name of ours before it gets its own, which it gets
//! only if nobody has it. Hence the same copy can be made again after one that did not come to its end: it goes on.
//!
//! Device files are left out: a machine has devices of its own.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, linkat, lsetxattr, mkdirat, mkfifoat, openat, renameat, renameat_with, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use super::super::user_namespace::UserNamespace;
use crate::image::tree::{Inode, InodeKind, InodeNumber};
use crate::image::{Attributes, ImageFiles};

/// What is being made, in the volume's root. Deleted by whoever finds it.
const UNFINISHED: &std::ffi::CStr = c".berth-unfinished";
/// Read at a time, and left out where it is all zeros.
const PIECE_BYTES: usize = 64 << 10;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies what is in the image's directory `from` into the directory `root`, and gives that the same attributes. Blocks.
///
/// # Errors
/// The image cannot be read, or the volume has no room; what was copied by then stays.
pub(super) fn copy(
    files: &ImageFiles,
    from: InodeNumber,
    root: &OwnedFd,
    ids: Option<&UserNamespace>,
) -> io::Result<()> {
    delete_unfinished(root)?;
    let mut copy = Copy { files, root, ids, placed: HashMap::new() };
    // Breadth first, by paths of ours: what is open at a time does not grow with the tree.
    let mut directories = vec![(Vec::new(), from)];
    let mut next = 0;
    while let Some((path, number)) = directories.get(next).cloned() {
        next += 1;
        let directory = copy.open(&path)?;
        for (name, child) in files.tree().children(number).into_iter().flatten() {
            let name = CString::new(name.as_slice()).map_err(|_| io::ErrorKind::InvalidData)?;
            let inside = || path.iter().cloned().chain([name.clone()]).collect::<Path>();
            if files.tree().children(*child).is_some() {
                make_directory(directory.as_fd(), &name)?;
                directories.push((inside(), *child));
            } else {
                copy.place(directory.as_fd(), &name, *child, inside)?;
            }
        }
    }
    // The deepest first: what is made in a directory changes its time.
    for (path, number) in directories.iter().rev() {
        let directory = copy.open(path)?;
        copy.describe(&directory, &files.tree().inode(*number).attributes)?;
    }
    Ok(rustix::fs::syncfs(root)?)
}

/// Names from the volume's root on.
type Path = Vec<CString>;

struct Copy<'a> {
    files: &'a ImageFiles,
    root: &'a OwnedFd,
    ids: Option<&'a UserNamespace>,
    /// Where files with several names got their first.
    placed: HashMap<InodeNumber, Path>,
}

impl Copy<'_> {
    fn open(&self, path: &[CString]) -> io::Result<OwnedFd> {
        let mut here = openat(self.root, c".", DIRECTORY, Mode::empty())?;
        for name in path {
            here = openat(&here, name, DIRECTORY, Mode::empty())?;
        }
        Ok(here)
    }

    /// What is no directory, under its name.
    fn place(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CString,
        number: InodeNumber,
        path: impl FnOnce() -> Path,
    ) -> io::Result<()> {
        let inode = self.files.tree().inode(number);
        if inode.names > 1 {
            if self.placed.get(&number).is_some_and(|first| self.link(first, directory, name)) {
                return Ok(());
            }
            self.placed.insert(number, path());
        }
        if self.make(number, inode)? {
            name_it(self.root, directory, name)?;
        }
        Ok(())
    }

    /// Another name for what was placed already; false if somebody has taken that away.
    fn link(&self, first: &Path, directory: BorrowedFd<'_>, name: &CString) -> bool {
        let Some((last, above)) = first.split_last() else { return false };
        let Ok(place) = self.open(above) else { return false };
        matches!(linkat(place, last, directory, name, AtFlags::empty()), Ok(()) | Err(Errno::EXIST))
    }

    /// Makes it, whole, under the name of what is unfinished; false if it is left out.
    fn make(&self, number: InodeNumber, inode: &Inode) -> io::Result<bool> {
        let attributes = &inode.attributes;
        match &inode.kind {
            InodeKind::File { size_bytes, .. } => {
                let create =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(self.root, UNFINISHED, create, Mode::RUSR | Mode::WUSR)?;
                let file = std::fs::File::from(file);
                self.write(number, *size_bytes, &file)?;
                self.describe(&file, attributes)?;
            }
            InodeKind::Symlink { target } => {
                let target = CString::new(target.as_slice()).map_err(|_| io::ErrorKind::InvalidData)?;
                symlinkat(&target, self.root, UNFINISHED)?;
                self.describe_link(attributes)?;
            }
            InodeKind::Fifo => {
                mkfifoat(self.root, UNFINISHED, Mode::RUSR | Mode::WUSR)?;
                let open = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                self.describe(&openat(self.root, UNFINISHED, open, Mode::empty())?, attributes)?;
            }
            InodeKind::CharacterDevice { .. } | InodeKind::BlockDevice { .. } | InodeKind::Directory(_) => {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn write(&self, number: InodeNumber, size_bytes: u64, file: &std::fs::File) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset_bytes = 0;
        while offset_bytes < size_bytes {
            let length = usize::try_from(size_bytes - offset_bytes).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let piece = &mut piece[..length];
            self.files.read_exact_at(number, piece, offset_bytes)?;
            if piece.iter().any(|byte| *byte != 0) {
                file.write_all_at(piece, offset_bytes)?;
            }
            offset_bytes += length as u64;
        }
        file.set_len(size_bytes)
    }

    /// In an order in which nothing takes away what was set before: a change of owner ends rights.
    fn describe(&self, file: &impl AsFd, attributes: &Attributes) -> io::Result<()> {
        let (uid, gid) = self.owner(attributes);
        fchown(file, Some(uid), Some(gid))?;
        fchmod(file, Mode::from_raw_mode(u32::from(attributes.mode)))?;
        for (name, value) in &attributes.xattrs {
            kept(fsetxattr(file, name.as_slice(), value, XattrFlags::empty()))?;
        }
        Ok(futimens(file, &times(attributes))?)
    }

    fn describe_link(&self, attributes: &Attributes) -> io::Result<()> {
        let (uid, gid) = self.owner(attributes);
        chownat(self.root, UNFINISHED, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        let here = format!("/proc/self/fd/{}/{}", self.root.as_raw_fd(), UNFINISHED.to_string_lossy());
        for (name, value) in &attributes.xattrs {
            kept(lsetxattr(&here, name.as_slice(), value, XattrFlags::empty()))?;
        }
        Ok(utimensat(self.root, UNFINISHED, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// As the host has it.
    fn owner(&self, attributes: &Attributes) -> (Uid, Gid) {
        let Attributes { uid, gid, .. } = attributes;
        let (uid, gid) = self.ids.map_or((*uid, *gid), |ids| ids.outside(*uid, *gid));
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }
}

/// Not every file system of the host's has attributes of every kind.
fn kept(set: Result<(), Errno>) -> io::Result<()> {
    match set {
        Err(Errno::NOTSUP) => Ok(()),
        result => Ok(result?),
    }
}

fn times(attributes: &Attributes) -> Timestamps {
    let modified = &attributes.modified;
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: i64::from(modified.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// One that is there already keeps what it has.
fn make_directory(directory: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    match mkdirat(directory, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is finished gets its name, unless somebody has that.
fn name_it(root: &OwnedFd, directory: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    match renameat_with(root, UNFINISHED, directory, name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => delete_unfinished(root),
        // A file system of the host's that knows no such rename.
        Err(Errno::INVAL) => Ok(renameat(root, UNFINISHED, directory, name)?),
        Err(error) => Err(error.into()),
    }
}

fn delete_unfinished(root: &OwnedFd) -> io::Result<()> {
    match unlinkat(root, UNFINISHED, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
