//! Guests that use the socket device in ways no driver does, to cost the host memory or a stall.

use std::io::Write;
use std::os::unix::net::UnixListener;

use virtio_queue::desc::split::Descriptor;

use super::packet::Operation;
use super::tests::{Bench, HOST_PORT, packet};
use crate::virtio::test_driver::{INDIRECT, NEXT, WRITE};

#[test]
fn connections_that_are_opened_and_reset_leave_nothing_behind() {
    let mut bench = Bench::new();
    let listener = UnixListener::bind(format!("{}_{HOST_PORT}", bench.path.display())).unwrap();
    for _ in 0..1000 {
        bench.send(packet(HOST_PORT, Operation::Request), &[]);
        drop(listener.accept().unwrap());
        bench.send(packet(HOST_PORT, Operation::Reset), &[]);
    }
    assert_eq!(bench.counters().connections, 1000);
    assert_eq!(bench.device.switchboard.waiting_turns(), 0);
}

/// A receive buffer in this many pieces.
fn offer_in_pieces(bench: &mut Bench, slot: u16, pieces: u16, piece_bytes: u32) {
    let mut table = Vec::new();
    for index in 0..pieces {
        let address = bench.receive.reserve(piece_bytes as usize);
        let flags = if index + 1 == pieces { WRITE } else { WRITE | NEXT };
        table.extend(address.to_le_bytes());
        table.extend(piece_bytes.to_le_bytes());
        table.extend([flags, index + 1].map(u16::to_le_bytes).as_flattened());
    }
    let address = bench.receive.place(&table);
    let length = u32::try_from(table.len()).unwrap();
    bench.receive.describe(slot, Descriptor::new(address, length, INDIRECT, 0));
    bench.receive.make_available(slot);
}

#[test]
fn buffers_in_more_pieces_than_one_system_call_takes_stall_nothing() {
    let mut bench = Bench::with_buffers(1);
    let (mut host, _) = bench.connect_from_host();
    let sent = 45_000;
    host.write_all(&vec![7; sent]).unwrap();
    // One call takes 1024 pieces, which have room for less than the host wrote.
    for slot in 10..17 {
        offer_in_pieces(&mut bench, slot, 250, 40);
    }
    bench.run().unwrap();
    assert_eq!(bench.counters().to_guest_bytes, u64::try_from(sent).unwrap());
}
