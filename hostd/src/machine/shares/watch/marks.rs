//! The kernel's marks on what a machine watches. Nothing here waits.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use berth_protocol::agent::{ShareChange, ShareWatch};
use berth_protocol::shares::is_name;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use tokio::net::unix::pipe;

use super::record::{
    ATTRIB, CLOSE_WRITE, CREATE, DELETE, DELETE_SELF, EVENT_ON_CHILD, Handle, MODIFY, MOVE_SELF, ONDIR,
    RENAME, parse, parse_marks,
};
use super::translate::{Translator, Watches};

/// Of one machine; each keeps a file of the host's in the kernel's memory. A tree of 50,000 files has some thousands of
/// directories, and those are what is watched.
const MAX_MARKS: usize = 16_384;

/// `FAN_REPORT_FID`, `FAN_REPORT_DIR_FID` and `FAN_REPORT_NAME` of `linux/fanotify.h`: which file it was, by its handle, and by
/// its name in which directory. No event opens a file then.
const REPORT: u32 = 0x200 | 0x400 | 0x800;

const FILE: u64 = MODIFY | ATTRIB | CLOSE_WRITE | DELETE_SELF | MOVE_SELF;
const DIRECTORY: u64 = FILE | CREATE | DELETE | RENAME | EVENT_ON_CHILD | ONDIR;

#[derive(Debug)]
pub(super) struct Marks {
    /// The tree of shares as the server has it.
    root: OwnedFd,
    server: Vec<u32>,
    /// From the first watch on: a host has a few hundred such groups for all its programs.
    group: Option<Group>,
    known: HashMap<u64, Known>,
    watches: Watches,
    cookie: u32,
}

#[derive(Debug)]
struct Group {
    fanotify: Fanotify,
    queue: pipe::Receiver,
    /// Marks that were made, those of files that cannot be found any more included.
    marks: usize,
}

/// A watch of the machine's, and the file that it is on.
#[derive(Debug)]
struct Known {
    share: String,
    path: Vec<u8>,
    inode: u64,
    handle: Option<Handle>,
}

impl Group {
    fn new() -> io::Result<Self> {
        let flags = InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | InitFlags::from_bits_retain(REPORT);
        let fanotify = Fanotify::init(flags, EventFFlags::O_CLOEXEC)?;
        // Not a pipe, but as readable as one: the name is tokio's for a descriptor that is polled and read.
        let queue = pipe::Receiver::from_owned_fd_unchecked(fanotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { fanotify, queue, marks: 0 })
    }

    fn mark(&self, how: MarkFlags, file: &OwnedFd, mask: u64) -> io::Result<()> {
        // A descriptor of a path cannot be marked itself.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(self.fanotify.mark(how, MaskFlags::from_bits_retain(mask), CWD, Some(path.as_str()))?)
    }

    fn handles(&self) -> io::Result<HashMap<u64, Handle>> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.fanotify.as_raw_fd()))?;
        Ok(parse_marks(&text).collect())
    }
}

impl Marks {
    pub(super) fn new(root: OwnedFd, server: Vec<u32>) -> Self {
        Self { root, server, group: None, known: HashMap::new(), watches: Watches::new(), cookie: 0 }
    }

    pub(super) fn forget(&mut self) {
        self.group = None;
        self.known.clear();
        self.watches.clear();
    }

    pub(super) fn queue(&mut self) -> Option<&pipe::Receiver> {
        Some(&self.group.as_ref()?.queue)
    }

    pub(super) fn apply(&mut self, said: Vec<ShareWatch>) -> io::Result<()> {
        let mut begun = Vec::new();
        for watch in said {
            if watch.begun {
                begun.extend(self.begin(watch)?);
            } else {
                self.end(watch.id);
            }
        }
        self.find_handles(&begun)
    }

    /// The id, if something is marked for it.
    fn begin(&mut self, watch: ShareWatch) -> io::Result<Option<u64>> {
        let ShareWatch { id, share, path, inode, .. } = watch;
        let known = Known { share, path, inode, handle: None };
        let Ok(file) = self.open(&known) else { return Ok(None) };
        if self.group.as_ref().is_some_and(|group| group.marks >= MAX_MARKS) {
            return Ok(None);
        }
        if self.group.is_none() {
            self.group = Some(Group::new()?);
        }
        let group = self.group.as_mut().expect("made above");
        let is_directory = FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Directory;
        match group.mark(MarkFlags::FAN_MARK_ADD, &file, if is_directory { DIRECTORY } else { FILE }) {
            Ok(()) => group.marks += 1,
            Err(error) => {
                // A file system without handles, for one.
                tracing::debug!(share = known.share, %error, "cannot be watched for a machine");
                return Ok(None);
            }
        }
        self.known.insert(id, known);
        Ok(Some(id))
    }

    /// Nothing but the file that the machine means, whatever lies at its path now.
    fn open(&self, known: &Known) -> io::Result<OwnedFd> {
        let file = self.open_path(&known.share, &known.path)?;
        if fstat(&file)?.st_ino == known.inode { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn open_path(&self, share: &str, path: &[u8]) -> io::Result<OwnedFd> {
        if !is_name(share) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let as_path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let whole = openat(&self.root, share, as_path, Mode::empty())?;
        if path.is_empty() {
            return Ok(whole);
        }
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(openat2(&whole, path, as_path, Mode::empty(), inside)?)
    }

    /// What the kernel calls those files in its events.
    fn find_handles(&mut self, begun: &[u64]) -> io::Result<()> {
        let Some(group) = self.group.as_ref().filter(|_| !begun.is_empty()) else { return Ok(()) };
        let handles = group.handles()?;
        for id in begun {
            let Some(known) = self.known.get_mut(id) else { continue };
            let Some(handle) = handles.get(&known.inode) else { continue };
            known.handle = Some(handle.clone());
            self.watches.entry(handle.clone()).or_default().push(*id);
        }
        Ok(())
    }

    fn end(&mut self, id: u64) {
        let Some(known) = self.known.remove(&id) else { return };
        let Some(handle) = &known.handle else { return };
        let others = self.watches.get_mut(handle).map_or(0, |ids| {
            ids.retain(|other| *other != id);
            ids.len()
        });
        if others > 0 {
            return;
        }
        self.watches.remove(handle);
        let file = self.open(&known);
        let Some(group) = &mut self.group else { return };
        // A file that was renamed meanwhile keeps its mark, which nobody listens to.
        if file.is_ok_and(|file| group.mark(MarkFlags::FAN_MARK_REMOVE, &file, DIRECTORY).is_ok()) {
            group.marks -= 1;
        }
        if self.known.is_empty() {
            self.group = None;
        }
    }

    pub(super) fn translate(&mut self, bytes: &[u8]) -> Vec<ShareChange> {
        let mut cookie = self.cookie;
        let exists = |id: u64, name: &[u8]| {
            self.known.get(&id).is_some_and(|known| {
                let path = if known.path.is_empty() {
                    name.to_vec()
                } else {
                    [&known.path[..], b"/", name].concat()
                };
                self.open_path(&known.share, &path).is_ok()
            })
        };
        let (watches, server) = (&self.watches, self.server.as_slice());
        let mut translator = Translator { watches, server, cookie: &mut cookie, exists: &exists };
        let changes = parse(bytes).iter().flat_map(|event| translator.translate(event)).collect();
        self.cookie = cookie;
        changes
    }
}
