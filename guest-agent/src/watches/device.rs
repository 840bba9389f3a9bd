//! `/dev/share-watches`, a device of our kernels': which files of shares are watched, and what has happened to them. Its
//! form is `fs/fuse/watches.c` of the kernel's patches.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use berth_protocol::agent::ShareChange;
use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

const PATH: &str = "/dev/share-watches";

/// `struct share_watch`, before the path.
const WATCH_BYTES: usize = 32;
/// PATH_MAX of the kernel's.
const MAX_PATH_BYTES: usize = 4096;

/// What the kernel says of an inode.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) id: u64,
    pub(super) inode: u64,
    /// Of its file system: major and minor number.
    pub(super) device: (u32, u32),
    /// Otherwise it is watched no longer.
    pub(super) begun: bool,
    /// From the root of its file system, with a slash before it; empty if it has no name.
    pub(super) path: Vec<u8>,
}

/// The reading end.
pub(super) struct Device {
    descriptor: AsyncFd<OwnedFd>,
}

/// Both ends, the second for a thread: what is written may wait for the host.
///
/// # Errors
/// The kernel has no such device, or it is not a share's machine.
pub(super) fn open() -> io::Result<(Device, File)> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(PATH, flags, Mode::empty())?;
    let writer = File::from(descriptor.try_clone()?);
    Ok((Device { descriptor: sys::register(descriptor, Interest::READABLE)? }, writer))
}

impl Device {
    pub(super) async fn next(&mut self) -> io::Result<Told> {
        let mut buffer = [0; WATCH_BYTES + MAX_PATH_BYTES];
        loop {
            let mut ready = self.descriptor.readable().await?;
            let read = ready.try_io(|descriptor| Ok(rustix::io::read(descriptor, &mut buffer)?));
            let Ok(count) = read else { continue };
            return parse(&buffer[..count?]).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Told> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    Some(Told {
        id: long(0)?,
        inode: long(8)?,
        device: (word(16)?, word(20)?),
        begun: word(24)? != 0,
        path: bytes.get(WATCH_BYTES..)?.to_vec(),
    })
}

/// `struct share_event`, and the name behind it.
pub(super) fn encode(change: &ShareChange) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + change.name.len());
    bytes.extend(change.watch_id.to_ne_bytes());
    bytes.extend(change.events.to_ne_bytes());
    bytes.extend(change.cookie.to_ne_bytes());
    bytes.extend(&change.name);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_a_head_and_a_path() {
        let head = [1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat();
        let words = [3_u32, 4, 1, 1].map(u32::to_ne_bytes).concat();
        let bytes = [head, words, b"/a/b".to_vec()].concat();
        let expected = Told { id: 1, inode: 2, device: (3, 4), begun: true, path: b"/a/b".to_vec() };
        assert_eq!(parse(&bytes), Some(expected));
        assert_eq!(parse(&bytes[..31]), None);
    }

    #[test]
    fn what_it_hears_is_a_head_and_a_name() {
        let change = ShareChange { watch_id: 1, events: 2, cookie: 3, name: b"n".to_vec() };
        let expected = [&1_u64.to_ne_bytes()[..], &2_u32.to_ne_bytes(), &3_u32.to_ne_bytes(), b"n"].concat();
        assert_eq!(encode(&change), expected);
    }
}
