//! Where a member belongs: a directory that is held open, and a name in it.
//!
//! The way from the extraction's directory to a member's is taken below it and through no link. Only where a link is in
//! the way, as /lib is one in many roots, it is followed, inside the container's root.

use std::os::fd::{AsFd, OwnedFd};

use berth_protocol::agent::ErrorCode;
use rustix::fs::{Mode, OFlags, fstat, mkdirat};
use rustix::io::Errno;

use super::metadata::Owner;
use super::shown;
use crate::container::ids::IdMaps;
use crate::failure::{During, Failure, errno_text};
use crate::files::View;
use crate::files::view::{components, keeps_files, open_below};

/// Docker's mode of directories that no member stands for.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// The extraction's directory.
pub(super) struct Places {
    view: View,
    path: Vec<u8>,
    directory: OwnedFd,
    /// The root file system may not be written.
    readonly_rootfs: bool,
}

/// A member's.
pub(super) struct Place {
    pub(super) parent: OwnedFd,
    /// One component.
    pub(super) name: Vec<u8>,
    /// Both together, relative to the extraction's directory.
    pub(super) path: Vec<u8>,
    /// The extraction's directory, for messages.
    pub(super) directory: String,
}

impl Place {
    /// For people.
    pub(super) fn shown(&self) -> String {
        format!("{}/{}", self.directory.trim_end_matches('/'), shown(&self.path))
    }
}

impl Places {
    /// # Errors
    /// NO_SUCH_FILE, NOT_A_DIRECTORY, READ_ONLY.
    pub(super) fn open(view: View, path: &[u8], readonly_rootfs: bool) -> Result<Self, Failure> {
        let directory = view.open(path, DIRECTORY).map_err(|errno| no_directory(path, errno))?;
        let places = Self { view, path: path.to_vec(), directory, readonly_rootfs };
        places.check_writable(&places.directory)?;
        Ok(places)
    }

    pub(super) fn ids(&self) -> &IdMaps {
        self.view.ids()
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        shown(&self.path)
    }

    /// Where a member of that path belongs; directories on the way to it are made. Nothing for the directory itself.
    ///
    /// # Errors
    /// INVALID_REQUEST, READ_ONLY, INTERNAL.
    pub(super) fn find(&self, path: &[u8]) -> Result<Option<Place>, Failure> {
        self.look_up(path, true)
    }

    /// The same for something that has to be there.
    pub(super) fn find_existing(&self, path: &[u8]) -> Result<Option<Place>, Failure> {
        self.look_up(path, false)
    }

    fn look_up(&self, path: &[u8], makes_parents: bool) -> Result<Option<Place>, Failure> {
        let mut names: Vec<&[u8]> = components(path).collect();
        if path.contains(&0) || names.contains(&b"..".as_slice()) {
            let message = format!("\"{}\" is outside of \"{}\"", shown(path), self.shown());
            return Err(Failure::invalid(message));
        }
        let Some(name) = names.pop() else { return Ok(None) };
        let parent = names.join(&b'/');
        let opened = match self.open_directory(&parent) {
            Err(Errno::NOENT) if makes_parents => self.make_directories(&names),
            opened => opened,
        };
        let path = [names.as_slice(), &[name]].concat().join(&b'/');
        let parent = opened.map_err(|errno| self.no_parent(&path, errno))?;
        self.check_writable(&parent)?;
        Ok(Some(Place { parent, name: name.to_vec(), path, directory: self.shown() }))
    }

    /// A directory that was written, if it is still one.
    pub(super) fn directory(&self, path: &[u8]) -> Option<OwnedFd> {
        let place = self.find_existing(path).ok().flatten()?;
        open_below(place.parent.as_fd(), &place.name, DIRECTORY | OFlags::NOFOLLOW).ok()
    }

    fn open_directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        match open_below(self.directory.as_fd(), path, DIRECTORY) {
            Err(Errno::LOOP) => self.view.open(&[self.path.as_slice(), b"/", path].concat(), DIRECTORY),
            opened => opened,
        }
    }

    fn make_directories(&self, names: &[&[u8]]) -> rustix::io::Result<OwnedFd> {
        let mut directory = self.open_directory(b"")?;
        for (index, name) in names.iter().enumerate() {
            let path = names[..=index].join(&b'/');
            let opened = match self.open_directory(&path) {
                Err(Errno::NOENT) => {
                    match mkdirat(&directory, *name, IMPLIED_MODE) {
                        Ok(()) => self.own(&directory, name)?,
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    self.open_directory(&path)
                }
                opened => opened,
            };
            directory = opened?;
        }
        Ok(directory)
    }

    /// What was made on the way belongs to the container's root.
    fn own(&self, parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
        if !self.ids().is_mapped() {
            return Ok(());
        }
        let directory = open_below(parent.as_fd(), name, DIRECTORY | OFlags::NOFOLLOW)?;
        Owner::ROOT.outside(self.ids()).map_err(|_nobody| Errno::OVERFLOW)?.own(directory)
    }

    fn check_writable(&self, directory: &OwnedFd) -> Result<(), Failure> {
        let step = || format!("look at {}", self.shown());
        if self.readonly_rootfs
            && fstat(directory).during(ErrorCode::Internal, step)?.st_dev == self.view.root_device()
        {
            return Err(Failure::new(ErrorCode::ReadOnly, "container rootfs is marked read-only"));
        }
        if !keeps_files(directory.as_fd()).during(ErrorCode::Internal, step)? {
            let message = format!("cannot write below {}: the kernel keeps no files there", self.shown());
            return Err(Failure::new(ErrorCode::ReadOnly, message));
        }
        Ok(())
    }

    fn no_parent(&self, path: &[u8], errno: Errno) -> Failure {
        let shown = format!("{}/{}", self.shown().trim_end_matches('/'), shown(path));
        failure(&format!("open {shown}"), errno)
    }
}

/// What kept a member from its place.
pub(super) fn failure(step: &str, errno: Errno) -> Failure {
    let code = match errno {
        Errno::ROFS => ErrorCode::ReadOnly,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::EXIST => {
            ErrorCode::InvalidRequest
        }
        _ => ErrorCode::Internal,
    };
    Failure::new(code, format!("{step}: {}", errno_text(errno)))
}

fn no_directory(path: &[u8], errno: Errno) -> Failure {
    match errno {
        Errno::NOENT => {
            Failure::new(ErrorCode::NoSuchFile, format!("lstat {}: {}", shown(path), errno_text(errno)))
        }
        Errno::NOTDIR => Failure::new(ErrorCode::NotADirectory, "extraction point is not a directory"),
        errno => failure(&format!("open {}", shown(path)), errno),
    }
}
