//! A share whose server says anything: the answers are bounded and checked, and what is told to a server makes sense.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::fs::MemfdFlags;
use virtio_queue::{Queue, QueueT};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::input::Input;
use crate::memory::GuestMemoryMmap;
use crate::virtio::{Share, VirtioDevice, Wires};

const MEMORY_BYTES: usize = 0x1_0000;
const MAX_STEPS: usize = 32;
const HEADER_BYTES: usize = 12;
/// The longest message of ours: a table of as many regions as a machine has.
const MAX_BODY_BYTES: usize = 8 + 2 * 32;
const VERSION: u32 = 1;
/// The message that says where a ring is.
const SET_RING_ADDRESS: u32 = 9;

/// The server's side of the protocol: what it answers is the input, and then it is gone.
pub(super) fn fs(input: &[u8]) {
    thread_local! {
        static MEMORY: GuestMemoryMmap = shared_memory();
    }
    let mut input = Input::new(input);
    let (ours, mut server) = UnixStream::pair().expect("the host has descriptors");
    server.write_all(&replies(&mut input)).expect("short replies fit an empty socket");
    server.shutdown(Shutdown::Write).expect("it is open");
    if let Ok(mut share) = Share::over("tag", ours) {
        MEMORY.with(|memory| drive(&mut share, memory, &mut input));
    }
    // The share is gone, and with it the last of what it said.
    let mut said = Vec::new();
    // It ends with an error if there were replies to nothing.
    server.read_to_end(&mut said).ok();
    MEMORY.with(|memory| check_messages(&said, memory));
}

fn shared_memory() -> GuestMemoryMmap {
    let file = rustix::fs::memfd_create("memory", MemfdFlags::CLOEXEC).expect("the host has descriptors");
    let file = std::fs::File::from(file);
    file.set_len(MEMORY_BYTES as u64).expect("a small file");
    let region = (GuestAddress(0), MEMORY_BYTES, Some(FileOffset::new(file, 0)));
    GuestMemoryMmap::from_ranges_with_files([region]).expect("one region")
}

/// Answers with headers that are right but for what the input changes, or plain bytes of the input.
fn replies(input: &mut Input<'_>) -> Vec<u8> {
    const IS_REPLY: u32 = 4;
    const BODY_BYTES: u32 = 8;
    let mut replies = Vec::new();
    for _ in 0..input.u8() & 15 {
        let shape = input.u8();
        let request = u32::from(input.u8() & 31);
        let flags = if shape & 1 == 0 { VERSION | IS_REPLY } else { input.u32() };
        let length = if shape & 2 == 0 { BODY_BYTES } else { input.u32() };
        replies.extend([request, flags, length].map(u32::to_le_bytes).as_flattened());
        // All of virtio's and vhost-user's features, or anything.
        let body = if shape & 4 == 0 { u64::MAX } else { input.u64() };
        replies.extend(body.to_le_bytes());
        if shape & 8 != 0 {
            replies.extend(input.short_bytes());
        }
    }
    replies
}

fn drive(share: &mut Share, memory: &GuestMemoryMmap, input: &mut Input<'_>) {
    let event = || EventFd::new(EFD_NONBLOCK).expect("the host has descriptors");
    let (kicks, call) = ([event(), event()], event());
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(6) {
            0 => share.activate(input.u64()),
            1 | 2 => {
                let queues = [queue(0x1000, 128, input.flag()), queue(0x8000, 512, input.flag())];
                let wires = Wires { memory, queues: &queues, kicks: &kicks, call: &call };
                // A server that is gone or speaks nonsense breaks the device, and a broken one stays so.
                drop(share.hand_over(&wires));
            }
            3 => share.reset(),
            4 => drop(share.host_event(memory, &mut [])),
            _ => {
                let mut data = [0; 8];
                share.read_config(input.u64(), &mut data[..input.one_of(&[1, 2, 4, 8])]);
            }
        }
    }
    share.reset();
}

fn queue(start: u32, size: u16, ready: bool) -> Queue {
    let mut queue = Queue::new(size).expect("a power of two");
    queue.set_desc_table_address(Some(start), Some(0));
    queue.set_avail_ring_address(Some(start + 0x3000), Some(0));
    queue.set_used_ring_address(Some(start + 0x4000), Some(0));
    queue.set_ready(ready);
    queue
}

/// # Panics
/// A message that is none, or that sends the server somewhere outside of the guest's memory.
fn check_messages(mut said: &[u8], memory: &GuestMemoryMmap) {
    let region = memory.iter().next().expect("one region");
    let start = region.as_ptr().addr() as u64;
    while !said.is_empty() {
        let (header, rest) = said.split_at_checked(HEADER_BYTES).expect("messages are whole");
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        assert_eq!(word(4), VERSION);
        let length = word(8) as usize;
        assert!(length <= MAX_BODY_BYTES, "a message of {length} bytes");
        let (body, behind) = rest.split_at_checked(length).expect("messages are whole");
        if word(0) == SET_RING_ADDRESS {
            for address in body[8..32].chunks_exact(8) {
                let address = u64::from_le_bytes(address.try_into().expect("eight bytes"));
                assert!((start..start + region.len()).contains(&address), "a ring at {address:#x}");
            }
        }
        said = behind;
    }
}
