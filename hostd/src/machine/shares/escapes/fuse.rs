//! Requests of FUSE, as `linux/fuse.h` has them, with whatever is wanted in them.

use std::path::Path;

use rustix::io::Errno;

use super::front_end::{FrontEnd, longs, words};

pub(super) const ROOT: u64 = 1;

pub(super) const LOOKUP: u32 = 1;
pub(super) const GETATTR: u32 = 3;
pub(super) const READLINK: u32 = 5;
pub(super) const SYMLINK: u32 = 6;
pub(super) const MKNOD: u32 = 8;
pub(super) const MKDIR: u32 = 9;
pub(super) const UNLINK: u32 = 10;
pub(super) const RMDIR: u32 = 11;
pub(super) const RENAME: u32 = 12;
pub(super) const LINK: u32 = 13;
pub(super) const OPEN: u32 = 14;
pub(super) const READ: u32 = 15;
pub(super) const WRITE: u32 = 16;
pub(super) const INIT: u32 = 26;
pub(super) const OPENDIR: u32 = 27;
pub(super) const READDIR: u32 = 28;
pub(super) const CREATE: u32 = 35;
pub(super) const IOCTL: u32 = 39;

/// FUSE_SUBMOUNTS: the server may say where another file system begins.
const SUBMOUNTS: u32 = 1 << 27;
/// The server has ended.
pub(super) const GONE: Errno = Errno::CONNRESET;

const IN_HEADER_BYTES: usize = 40;
const OUT_HEADER_BYTES: usize = 16;

/// What the server says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) node: u64,
    pub(super) inode: u64,
    pub(super) mode: u32,
}

/// A guest's kernel that has mounted its shares.
pub(super) struct Guest {
    front_end: FrontEnd,
    unique: u64,
}

impl Guest {
    pub(super) fn of(socket: &Path) -> Self {
        let mut guest = Self { front_end: FrontEnd::connect(socket), unique: 0 };
        let init = words(&[7, 38, 0, SUBMOUNTS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        guest.ask(INIT, 0, &init).expect("the server takes a guest");
        guest
    }

    /// As root in the guest.
    pub(super) fn ask(&mut self, operation: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let length = u32::try_from(IN_HEADER_BYTES + body.len()).unwrap();
        self.ask_claiming(length, operation, node, body)
    }

    /// The same with another length in its header than it has.
    pub(super) fn ask_claiming(
        &mut self,
        length: u32,
        operation: u32,
        node: u64,
        body: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        self.unique += 1;
        let header = [words(&[length, operation]), longs(&[self.unique, node]), words(&[0, 0, 1, 0])];
        let reply = self.front_end.exchange(&[header.concat(), body.to_vec()].concat());
        let Some(reply) = reply else { return Err(GONE) };
        if reply.len() < OUT_HEADER_BYTES {
            return Err(Errno::IO);
        }
        let error = i32::from_le_bytes(reply[4..8].try_into().unwrap());
        if error == 0 {
            Ok(reply[OUT_HEADER_BYTES..].to_vec())
        } else {
            Err(Errno::from_raw_os_error(-error))
        }
    }

    /// With nothing at all that makes sense.
    pub(super) fn throw(&mut self, bytes: &[u8]) {
        let _answer = self.front_end.exchange(bytes);
    }

    pub(super) fn look_up(&mut self, directory: u64, name: impl AsRef<[u8]>) -> Result<Found, Errno> {
        self.ask(LOOKUP, directory, &text(name)).map(|entry| Found {
            node: long(&entry, 0),
            inode: long(&entry, 40),
            mode: word(&entry, 40 + 60),
        })
    }

    pub(super) fn open(&mut self, node: u64, flags: u32) -> Result<u64, Errno> {
        self.ask(OPEN, node, &words(&[flags, 0])).map(|opened| long(&opened, 0))
    }

    pub(super) fn read(&mut self, node: u64, handle: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let body = [longs(&[handle, 0]), words(&[size, 0]), longs(&[0]), words(&[0, 0])].concat();
        self.ask(READ, node, &body)
    }

    pub(super) fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<Vec<u8>, Errno> {
        let names = [text(from.1), text(to.1)].concat();
        self.ask(RENAME, from.0, &[longs(&[to.0]), names].concat())
    }

    pub(super) fn create(&mut self, directory: u64, name: &str) -> Result<Vec<u8>, Errno> {
        let flags = 0o2 | 0o100;
        self.ask(CREATE, directory, &[words(&[flags, 0o644, 0, 0]), text(name)].concat())
    }

    pub(super) fn make_node(
        &mut self,
        directory: u64,
        name: &str,
        mode: u32,
        device: u32,
    ) -> Result<Vec<u8>, Errno> {
        self.ask(MKNOD, directory, &[words(&[mode, device, 0, 0]), text(name)].concat())
    }
}

pub(super) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    [text.as_ref(), &[0]].concat()
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
