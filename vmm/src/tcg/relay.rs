//! Stands between a network card of QEMU's and the transport that serves ours, for what they do not agree about.
//!
//! QEMU's cards refuse a connection that somebody else made (they cannot tell that it carries descriptors), and enable
//! their queues before they say which features of the protocol they use; the transport takes that for nonsense. So QEMU
//! connects to a socket without a name, and the transport hears of those features before QEMU speaks. Frames do not
//! come by here: they are in queues in shared memory.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::handover::{receive_with_descriptors, send_with_descriptors};

/// No message of the protocol is as long.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Requests of the protocol, and the bit of virtio's features that stands for the protocol's own.
const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const PROTOCOL_VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
const NUMBER_BYTES: usize = 8;

/// Relays between `transport` and whoever connects first to what this gives, by its path below `/proc`: the socket has
/// no other name. `directory` is where it has one for a moment.
///
/// # Errors
/// The transport is gone, or the host has no more descriptors or threads, or the directory cannot hold a socket.
pub(super) fn begin(mut transport: UnixStream, directory: &Path) -> io::Result<OwnedFd> {
    announce_features(&mut transport)?;
    let path = directory.join("card.sock");
    let listener = UnixListener::bind(&path)?;
    let door = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    std::fs::remove_file(&path)?;
    super::thread("card-relay", move || {
        // Whatever ends it, the card's connection is over: QEMU and the transport each see that for themselves.
        listener.accept().and_then(|(card, _)| relay(&card, &transport)).ok();
    })?;
    Ok(door?)
}

/// The transport must have been asked what there is before it hears what is used.
fn announce_features(transport: &mut UnixStream) -> io::Result<()> {
    let header = |request: u32, length: usize| {
        let length = u32::try_from(length).expect("a short message");
        [request, PROTOCOL_VERSION, length].map(u32::to_le_bytes)
    };
    transport.write_all(header(GET_FEATURES, 0).as_flattened())?;
    transport.read_exact(&mut [0; HEADER_BYTES + NUMBER_BYTES])?;
    let mut message = header(SET_FEATURES, NUMBER_BYTES).as_flattened().to_vec();
    message.extend(PROTOCOL_FEATURES.to_le_bytes());
    transport.write_all(&message)
}

/// Moves messages, and the descriptors with them, both ways until one side ends.
fn relay(card: &UnixStream, transport: &UnixStream) -> io::Result<()> {
    let mut buffer = [0; MAX_MESSAGE_BYTES];
    loop {
        let mut sources = [PollFd::new(card, PollFlags::IN), PollFd::new(transport, PollFlags::IN)];
        retry_on_intr(|| poll(&mut sources, None))?;
        let ready = sources.map(|source| !source.revents().is_empty());
        for (is_ready, from, to) in [(ready[0], card, transport), (ready[1], transport, card)] {
            if is_ready {
                pass_on(from, to, &mut buffer)?;
            }
        }
    }
}

/// Passes one message on: descriptors belong to a message, and a stream forgets where messages begin.
fn pass_on(from: &UnixStream, to: &UnixStream, buffer: &mut [u8; MAX_MESSAGE_BYTES]) -> io::Result<()> {
    let mut descriptors = Vec::new();
    receive_exactly(from, &mut buffer[..HEADER_BYTES], &mut descriptors)?;
    let length = u32::from_le_bytes([buffer[8], buffer[9], buffer[10], buffer[11]]) as usize;
    let rest = HEADER_BYTES..HEADER_BYTES.saturating_add(length);
    let body = buffer.get_mut(rest.clone()).ok_or(io::ErrorKind::InvalidData)?;
    receive_exactly(from, body, &mut descriptors)?;
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    send_with_descriptors(to, &buffer[..rest.end], &descriptors)
}

fn receive_exactly(
    from: &UnixStream,
    mut buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match receive_with_descriptors(from, buffer, descriptors)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => buffer = &mut buffer[length..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_transport_hears_of_features_first_and_then_both_hear_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, mut transport) = UnixStream::pair().unwrap();
        let asked = std::thread::spawn(move || {
            transport.read_exact(&mut [0; HEADER_BYTES]).unwrap();
            transport.write_all(&[0; HEADER_BYTES + NUMBER_BYTES]).unwrap();
            let mut message = [0; HEADER_BYTES + NUMBER_BYTES];
            transport.read_exact(&mut message).unwrap();
            (transport, message)
        });
        let door = begin(ours, directory.path()).unwrap();
        let (mut transport, features) = asked.join().unwrap();
        assert_eq!((features[0], features[HEADER_BYTES + 3]), (2, 0x40));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the socket has a name");

        let mut card = UnixStream::connect(format!("/proc/self/fd/{}", door.as_raw_fd())).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        // Three at once: the descriptor stays with its own.
        send_with_descriptors(&card, &message(b"one"), &[]).unwrap();
        send_with_descriptors(&card, &message(b"take this"), &[writer.as_fd()]).unwrap();
        send_with_descriptors(&card, &message(b""), &[]).unwrap();
        drop(writer);
        let mut descriptors = Vec::new();
        let mut buffer = [0; HEADER_BYTES + 3];
        receive_exactly(&transport, &mut buffer, &mut descriptors).unwrap();
        assert!(buffer.ends_with(b"one") && descriptors.is_empty());
        let mut buffer = [0; HEADER_BYTES + 9];
        receive_exactly(&transport, &mut buffer[..HEADER_BYTES], &mut descriptors).unwrap();
        assert_eq!(descriptors.len(), 1);
        receive_exactly(&transport, &mut buffer[HEADER_BYTES..], &mut descriptors).unwrap();
        assert!(buffer.ends_with(b"take this"));
        receive_exactly(&transport, &mut buffer[..HEADER_BYTES], &mut descriptors).unwrap();
        std::fs::File::from(descriptors.pop().unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through", "nobody else has kept the other end");

        transport.write_all(&message(b"yes")).unwrap();
        card.read_exact(&mut buffer[..HEADER_BYTES + 3]).unwrap();
        assert!(buffer[..HEADER_BYTES + 3].ends_with(b"yes"));
        // A message that cannot be ends both connections.
        let mut endless = message(b"");
        endless[8..12].fill(0xff);
        card.write_all(&endless).unwrap();
        assert_eq!(transport.read(&mut buffer).unwrap(), 0);
        assert_eq!(card.read(&mut buffer).unwrap(), 0);
    }

    fn message(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap();
        let header = [99, PROTOCOL_VERSION, length].map(u32::to_le_bytes);
        [header.as_flattened(), body].concat()
    }
}
