//! A driver of the share server without a machine: what a guest's kernel can put on the queue, and worse.
//!
//! The vhost-user protocol's front end, as far as one queue needs it. Memory is a file that both sides have; here it is
//! read and written as one, so nothing of this is unsafe.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Of the vhost-user protocol: messages, and bits of their flags and features.
const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_OWNER: u32 = 3;
const SET_MEMORY: u32 = 5;
const SET_QUEUE_SIZE: u32 = 8;
const SET_QUEUE_ADDRESSES: u32 = 9;
const SET_QUEUE_BASE: u32 = 10;
const SET_QUEUE_KICK: u32 = 12;
const SET_QUEUE_CALL: u32 = 13;
const SET_PROTOCOL_FEATURES: u32 = 16;
const ENABLE_QUEUE: u32 = 18;
const VERSION: u32 = 1;
const VIRTIO_1_AND_PROTOCOL_FEATURES: u64 = 1 << 32 | 1 << 30;

/// The first queue is for requests that are urgent.
const QUEUE: u32 = 1;
const QUEUE_SIZE: u16 = 16;

/// Where things are in the memory, which begins at this address of the front end's.
const USER_ADDRESS: u64 = 0x1000_0000;
const MEMORY_BYTES: u64 = 4 << 20;
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const REQUEST: u64 = 0x1_0000;
const REPLY: u64 = 0x20_0000;
const REPLY_BYTES: u32 = 1 << 20;

const HAS_NEXT: u16 = 1;
const IS_WRITTEN: u16 = 2;

const DEADLINE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

pub(super) struct FrontEnd {
    stream: UnixStream,
    memory: File,
    kick: OwnedFd,
    call: OwnedFd,
    /// How many requests were made available.
    made: u16,
}

impl FrontEnd {
    pub(super) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let memory = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(MEMORY_BYTES).unwrap();
        let event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let mut front_end = Self { stream, memory, kick: event(), call: event(), made: 0 };
        front_end.set_up();
        front_end
    }

    fn set_up(&mut self) {
        self.send(GET_FEATURES, &[], None);
        let mut reply = [0; 20];
        self.stream.read_exact(&mut reply).unwrap();
        self.send(SET_FEATURES, &longs(&[VIRTIO_1_AND_PROTOCOL_FEATURES]), None);
        self.send(SET_PROTOCOL_FEATURES, &longs(&[0]), None);
        self.send(SET_OWNER, &[], None);
        let region = [words(&[1, 0]), longs(&[0, MEMORY_BYTES, USER_ADDRESS, 0])].concat();
        self.send(SET_MEMORY, &region, Some(self.memory.as_fd()));
        self.send(SET_QUEUE_SIZE, &words(&[QUEUE, QUEUE_SIZE.into()]), None);
        let addresses = [DESCRIPTORS, USED, AVAILABLE, 0].map(|offset| USER_ADDRESS + offset);
        self.send(SET_QUEUE_ADDRESSES, &[words(&[QUEUE, 0]), longs(&addresses)].concat(), None);
        self.send(SET_QUEUE_BASE, &words(&[QUEUE, 0]), None);
        self.send(SET_QUEUE_CALL, &longs(&[QUEUE.into()]), Some(self.call.as_fd()));
        self.send(SET_QUEUE_KICK, &longs(&[QUEUE.into()]), Some(self.kick.as_fd()));
        self.send(ENABLE_QUEUE, &words(&[QUEUE, 1]), None);
    }

    fn send(&self, message: u32, payload: &[u8], descriptor: Option<BorrowedFd<'_>>) {
        let length = u32::try_from(payload.len()).unwrap();
        let bytes = [words(&[message, VERSION, length]), payload.to_vec()].concat();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        let sent = sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL);
        assert_eq!(sent.unwrap(), bytes.len());
    }

    /// Puts these bytes on the queue and gives what the server has written when it has done with them; nothing if it has
    /// written nothing. `None` if it has ended, as it may for a guest that breaks the protocol: it is that guest's alone.
    pub(super) fn exchange(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let length = u32::try_from(request.len()).unwrap();
        self.write(REQUEST, request);
        self.write(REPLY, &[0; 16]);
        self.write(DESCRIPTORS, &descriptor(REQUEST, length, HAS_NEXT, 1));
        self.write(DESCRIPTORS + 16, &descriptor(REPLY, REPLY_BYTES, IS_WRITTEN, 0));
        let slot = u64::from(self.made % QUEUE_SIZE);
        self.write(AVAILABLE + 4 + slot * 2, &0_u16.to_le_bytes());
        self.made = self.made.wrapping_add(1);
        self.write(AVAILABLE + 2, &self.made.to_le_bytes());
        if self.is_gone() {
            return None;
        }
        rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).unwrap();
        while self.half_word(USED + 2) != self.made {
            let mut waiting = [
                PollFd::from_borrowed_fd(self.call.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::RDHUP),
            ];
            assert!(poll(&mut waiting, Some(&DEADLINE)).unwrap() > 0, "no answer from virtiofsd");
            if !waiting[1].revents().is_empty() {
                return None;
            }
            rustix::io::read(&self.call, &mut [0; 8]).unwrap();
        }
        let mut header = [0; 4];
        self.memory.read_exact_at(&mut header, REPLY).unwrap();
        let mut reply = vec![0; u32::from_le_bytes(header).min(REPLY_BYTES) as usize];
        self.memory.read_exact_at(&mut reply, REPLY).unwrap();
        Some(reply)
    }

    fn is_gone(&self) -> bool {
        let mut state = [PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::RDHUP)];
        poll(&mut state, Some(&Timespec::default())).unwrap() > 0
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, at).unwrap();
    }

    fn half_word(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        self.memory.read_exact_at(&mut bytes, at).unwrap();
        u16::from_le_bytes(bytes)
    }
}

fn descriptor(address: u64, length: u32, flags: u16, next: u16) -> Vec<u8> {
    [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
}

pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(super) fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_le_bytes()).collect()
}
