//! What an overlay's upper directory changes of the lower one: the walk, and the list of changes.
//!
//! What lies in the upper one was written, or copied up for something that was not done to it in the end: how closely
//! that is looked at is [`Scope`]. A directory is changed by what is changed in it, too. Like every walk here, this one opens
//! each entry once, without following any link.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Stat, fstat, major, minor};
use rustix::io::Errno;

use super::entries::{MAX_ATTRIBUTE_BYTES, attributes};
use super::levels::Levels;
use super::names::Names;
use super::walk::{named, names_in, open_entry};

/// Names of overlayfs's own attributes begin so (the kernel's `filesystems/overlayfs.rst`).
pub(super) const OVERLAY_ATTRIBUTES: &[u8] = b"trusted.overlay.";
const OPAQUE: &str = "trusted.overlay.opaque";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

/// One path that is not as below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    /// Relative to the root.
    pub(crate) path: &'a [u8],
    pub(crate) kind: ChangeKind,
    /// It is a new directory in place of the lower one, nothing of which shows through; or it was deleted with that.
    pub(crate) with_all_below: bool,
    /// What is there now.
    pub(crate) file: Option<(&'a OwnedFd, &'a Stat)>,
}

/// What counts as a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What Docker lists: what looks other than it did by owner, permissions, attributes, size and time, of which the
    /// size and time of directories say nothing.
    Seen,
    /// All that was written, whatever it looks like; and directories by their times, too.
    Written,
}

/// Who is told of the changes, in the order of names, a directory before what is in it.
pub(crate) trait Visit {
    /// # Errors
    /// The visitor's own. They end the walk.
    fn visit(&mut self, change: &Change<'_>) -> io::Result<()>;
}

/// What is put into a root before anything runs in it, where it is not there anyway: no change of anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Furnishing {
    /// 0755, of root.
    Directory(&'static str),
    /// Covered with another one.
    File(&'static str),
}

impl Furnishing {
    /// Relative to the root.
    fn path(&self) -> &'static [u8] {
        let (Self::Directory(path) | Self::File(path)) = self;
        path.as_bytes()
    }
}

/// Both sides of an overlay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overlay<'a> {
    pub(crate) upper: BorrowedFd<'a>,
    pub(crate) lower: BorrowedFd<'a>,
    pub(crate) furnishings: &'a [Furnishing],
}

/// What of the lower directory shows through one of the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    Nothing,
    Everything,
    /// There is a lower one, hidden by this or one above it.
    Hidden,
}

/// What the walk knows of a directory that it is in.
#[derive(Debug)]
struct Inside {
    path: Vec<u8>,
    below: Below,
    /// Its own properties are as below: it is told of with the first change in it.
    is_untold: bool,
}

impl Overlay<'_> {
    /// Tells of every change, but never of the root itself.
    ///
    /// # Errors
    /// The visitor's own, and whatever cannot be read, named.
    pub(crate) fn changes(&self, scope: Scope, visitor: &mut impl Visit) -> io::Result<()> {
        let root = open_entry(self.upper, b".")?.ok_or(io::ErrorKind::NotFound)?;
        let mut levels = Levels::default();
        let inside = Inside { path: Vec::new(), below: Below::Everything, is_untold: false };
        levels.push(b"", names_in(&root)?, inside)?;
        let mut walk = Walk { overlay: self, scope, visitor, levels };
        while let Some(path) = walk.levels.next() {
            walk.entry(&path).map_err(|error| named(&path, &error))?;
        }
        Ok(())
    }

    fn furnishing(&self, path: &[u8]) -> Option<Furnishing> {
        self.furnishings.iter().copied().find(|furnishing| furnishing.path() == path)
    }

    /// Whether something was put into a directory, which changed its time.
    fn is_furnished(&self, directory: &[u8]) -> io::Result<bool> {
        for furnishing in self.furnishings {
            let path = furnishing.path();
            let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |at| &path[..at]);
            if parent == directory && open_entry(self.lower, path)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

struct Walk<'a, V> {
    overlay: &'a Overlay<'a>,
    scope: Scope,
    visitor: &'a mut V,
    levels: Levels<Inside>,
}

/// An entry as it lies on one side.
struct Found {
    file: OwnedFd,
    stat: Stat,
}

impl Found {
    fn find(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<Self>> {
        let Some(file) = open_entry(root, path)? else { return Ok(None) };
        let stat = fstat(&file)?;
        Ok(Some(Self { file, stat }))
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// The mark of what was deleted.
    fn is_whiteout(&self) -> bool {
        let device = self.stat.st_rdev;
        self.kind() == FileType::CharacterDevice && (major(device), minor(device)) == (0, 0)
    }

    fn is_opaque(&self) -> io::Result<bool> {
        let mut value = [0];
        match rustix::fs::getxattr(super::entries::own_path(&self.file), OPAQUE, &mut value) {
            Ok(length) => Ok(value[..length] == *b"y"),
            // It has none, or a longer one that means something else.
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn permissions(&self) -> (u32, u32, u32) {
        (self.stat.st_mode & 0o7777, self.stat.st_uid, self.stat.st_gid)
    }

    /// But for the content, which is not read.
    fn looks_like(&self, other: &Self) -> io::Result<bool> {
        let (own, others) = (&self.stat, &other.stat);
        Ok(self.kind() == other.kind()
            && self.permissions() == other.permissions()
            && (own.st_size, own.st_rdev) == (others.st_size, others.st_rdev)
            && self.was_modified_when(other)
            && self.has_attributes_of(other)?)
    }

    /// Not every file system keeps the fraction.
    fn was_modified_when(&self, other: &Self) -> bool {
        let (own, other) = (&self.stat, &other.stat);
        let (fraction, other_fraction) = (own.st_mtime_nsec, other.st_mtime_nsec);
        own.st_mtime == other.st_mtime && (fraction == other_fraction || fraction == 0 || other_fraction == 0)
    }

    fn has_attributes_of(&self, other: &Self) -> io::Result<bool> {
        let mut buffer = vec![0; MAX_ATTRIBUTE_BYTES];
        let mut own = attributes(&self.file, &mut buffer)?;
        let mut others = attributes(&other.file, &mut buffer)?;
        for attributes in [&mut own, &mut others] {
            attributes.retain(|attribute| !attribute.name.starts_with(OVERLAY_ATTRIBUTES));
        }
        Ok(own == others)
    }
}

impl<V: Visit> Walk<'_, V> {
    fn entry(&mut self, path: &[u8]) -> io::Result<()> {
        let below = self.levels.innermost().map_or(Below::Nothing, |inside| inside.below);
        let lower = match below {
            Below::Nothing => None,
            Below::Everything | Below::Hidden => Found::find(self.overlay.lower, path)?,
        };
        let upper = Found::find(self.overlay.upper, path)?;
        let with_all_below = below == Below::Hidden;
        match (upper, lower) {
            // It vanished, or nobody sees anything of it either way.
            (None, None) => Ok(()),
            (None, Some(_)) if !with_all_below => Ok(()),
            (None, Some(_)) => self.tell(path, ChangeKind::Deleted, true, None),
            (Some(upper), None) if upper.is_whiteout() => Ok(()),
            (Some(upper), Some(_)) if upper.is_whiteout() => {
                self.tell(path, ChangeKind::Deleted, with_all_below, None)
            }
            (Some(upper), lower) if upper.is_directory() => {
                self.directory(path, &upper, lower.as_ref(), below)
            }
            (Some(_), None) if matches!(self.overlay.furnishing(path), Some(Furnishing::File(_))) => Ok(()),
            (Some(upper), None) => self.tell(path, ChangeKind::Added, false, Some(&upper)),
            (Some(upper), Some(lower)) if self.scope == Scope::Seen && upper.looks_like(&lower)? => Ok(()),
            (Some(upper), Some(_)) => self.tell(path, ChangeKind::Modified, false, Some(&upper)),
        }
    }

    fn directory(
        &mut self,
        path: &[u8],
        upper: &Found,
        lower: Option<&Found>,
        parent: Below,
    ) -> io::Result<()> {
        let lower_directory = lower.filter(|lower| lower.is_directory());
        let below = match lower_directory {
            None => Below::Nothing,
            Some(_) if parent == Below::Hidden || upper.is_opaque()? => Below::Hidden,
            Some(_) => Below::Everything,
        };
        let is_replaced = below == Below::Hidden && parent == Below::Everything;
        let change = match (lower, lower_directory) {
            (None, _) => self.new_directory(path, upper),
            (Some(_), None) => Some(ChangeKind::Modified),
            (Some(_), Some(lower)) => {
                (is_replaced || self.differs(path, upper, lower)?).then_some(ChangeKind::Modified)
            }
        };
        if let Some(kind) = change {
            self.tell(path, kind, is_replaced, Some(upper))?;
        }
        let mut names = names_in(&upper.file)?;
        if let (Below::Hidden, Some(lower)) = (below, lower_directory) {
            names = Names::of_both(names, names_in(&lower.file)?)?;
        }
        self.levels.push(path, names, Inside { path: path.to_vec(), below, is_untold: change.is_none() })
    }

    fn new_directory(&self, path: &[u8], upper: &Found) -> Option<ChangeKind> {
        match self.overlay.furnishing(path) {
            Some(Furnishing::Directory(_)) => {
                (upper.permissions() != (0o755, 0, 0)).then_some(ChangeKind::Modified)
            }
            _ => Some(ChangeKind::Added),
        }
    }

    /// Whether a directory's own properties differ from those of the lower one.
    fn differs(&self, path: &[u8], upper: &Found, lower: &Found) -> io::Result<bool> {
        if upper.permissions() != lower.permissions() || !upper.has_attributes_of(lower)? {
            return Ok(true);
        }
        let time_counts = self.scope == Scope::Written && !self.overlay.is_furnished(path)?;
        Ok(time_counts && !upper.was_modified_when(lower))
    }

    /// First of the directories that it is in, where nobody knows of them yet.
    fn tell(
        &mut self,
        path: &[u8],
        kind: ChangeKind,
        with_all_below: bool,
        file: Option<&Found>,
    ) -> io::Result<()> {
        for inside in self.levels.states_mut().filter(|inside| inside.is_untold) {
            inside.is_untold = false;
            if let Some(found) = Found::find(self.overlay.upper, &inside.path)? {
                self.visitor.visit(&Change {
                    path: &inside.path,
                    kind: ChangeKind::Modified,
                    with_all_below: false,
                    file: Some((&found.file, &found.stat)),
                })?;
            }
        }
        let file = file.map(|found| (&found.file, &found.stat));
        self.visitor.visit(&Change { path, kind, with_all_below, file })
    }
}

#[cfg(test)]
mod tests;
