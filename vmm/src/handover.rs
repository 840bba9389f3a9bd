//! What a daemon hands to a machine's process: open files, each with the path that the configuration calls it by, and
//! what becomes of the process.
//!
//! Travels over a socket of the kind `SOCK_SEQPACKET` that is the process's standard input. A parcel is JSON with at most
//! [`FILES_IN_PARCEL`] descriptors (unix(7), `SCM_RIGHTS`), the last one has the orders. What the files are for is not
//! known here.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// As many paths of the greatest length fit into a socket's buffer; the kernel's bound is 253 descriptors.
pub const FILES_IN_PARCEL: usize = 32;
/// Above what a parcel can be: a longer one is cut off, and refused.
const MAX_PARCEL_BYTES: usize = 256 << 10;
/// More files than all disks together can have.
const MAX_FILES: usize = crate::config::MAX_DISKS * crate::config::MAX_EXTENTS + 64;

/// What becomes of the process that takes the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    /// The user and group that it becomes, of no other process; without, it gets a user namespace instead.
    pub user: Option<u32>,
    /// Files of the handover, each the `cgroup.procs` of a group that it enters first of all.
    pub cgroups: Vec<PathBuf>,
}

/// Everything that was handed over.
#[derive(Debug)]
pub struct Handover {
    pub files: Vec<(PathBuf, OwnedFd)>,
    pub orders: Orders,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parcel {
    files: Vec<PathBuf>,
    orders: Option<Orders>,
}

/// Hands over all of `files`, and `orders`. Blocks while the other end does not take them.
///
/// # Errors
/// The other end is gone.
pub fn send(socket: impl AsFd, files: &[(&Path, BorrowedFd<'_>)], orders: &Orders) -> io::Result<()> {
    let count = files.len().div_ceil(FILES_IN_PARCEL).max(1);
    for index in 0..count {
        let start = index * FILES_IN_PARCEL;
        let part = &files[start..files.len().min(start + FILES_IN_PARCEL)];
        let parcel = Parcel {
            files: part.iter().map(|(path, _)| path.to_path_buf()).collect(),
            orders: (index + 1 == count).then(|| orders.clone()),
        };
        let bytes = serde_json::to_vec(&parcel).map_err(io::Error::other)?;
        let descriptors: Vec<_> = part.iter().map(|(_, descriptor)| *descriptor).collect();
        send_with_descriptors(&socket, &bytes, &descriptors)?;
    }
    Ok(())
}

/// Sends `bytes`, and with the first of them at most [`FILES_IN_PARCEL`] descriptors.
///
/// # Errors
/// The other end is gone, or takes fewer bytes.
pub fn send_with_descriptors(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_IN_PARCEL))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("more than {FILES_IN_PARCEL} descriptors in one message")));
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Takes everything over. Blocks until the orders are there.
///
/// # Errors
/// The socket ends or carries something else.
pub fn receive(socket: impl AsFd) -> io::Result<Handover> {
    let mut files = Vec::new();
    let mut buffer = vec![0; MAX_PARCEL_BYTES];
    loop {
        let mut descriptors = Vec::new();
        let length = receive_with_descriptors(&socket, &mut buffer, &mut descriptors)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parcel: Parcel = serde_json::from_slice(&buffer[..length])?;
        if parcel.files.len() != descriptors.len() || files.len() + descriptors.len() > MAX_FILES {
            return Err(io::Error::other("a handover whose paths and descriptors do not match"));
        }
        files.extend(parcel.files.into_iter().zip(descriptors));
        if let Some(orders) = parcel.orders {
            return Ok(Handover { files, orders });
        }
    }
}

/// Reads into `buffer`, and adds the descriptors that came along, which close on exec. Gives the number of bytes.
///
/// # Errors
/// The socket fails, or sends more than fits.
pub(crate) fn receive_with_descriptors(
    socket: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_IN_PARCEL))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let parts = &mut [IoSliceMut::new(buffer)];
        match recvmsg(&socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a message, or its descriptors, is longer than what is possible"));
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn files_arrive_under_their_paths_however_many_they_are() {
        let (ours, theirs) = pair();
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..100).map(|index| directory.path().join(format!("file{index}"))).collect();
        let opened: Vec<_> = paths.iter().map(|path| File::create(path).unwrap()).collect();
        let files: Vec<_> =
            paths.iter().zip(&opened).map(|(path, file)| (path.as_path(), file.as_fd())).collect();
        let orders = Orders { user: Some(7), cgroups: vec!["/c".into()] };
        let handover = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&theirs).unwrap());
            send(&ours, &files, &orders).unwrap();
            receiver.join().unwrap()
        });
        assert_eq!((handover.orders, handover.files.len()), (orders, 100));
        for (path, descriptor) in handover.files {
            let inode = File::from(descriptor).metadata().unwrap().ino();
            assert_eq!(inode, std::fs::metadata(&path).unwrap().ino(), "{}", path.display());
        }
    }

    #[test]
    fn an_end_or_nonsense_is_no_handover() {
        let (ours, theirs) = pair();
        send_with_descriptors(&ours, br#"{"files":["/a"],"orders":null}"#, &[]).unwrap();
        assert!(receive(&theirs).unwrap_err().to_string().contains("do not match"));
        send_with_descriptors(&ours, b"{", &[]).unwrap();
        assert!(receive(&theirs).is_err());
        drop(ours);
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
