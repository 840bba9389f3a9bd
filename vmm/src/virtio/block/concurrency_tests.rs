//! Many requests under way at the same time, on hosts with and without a ring.

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::tests::{Bench, FLUSH, IO_ERROR, OK, READ, WRITE_SECTORS, extent, header, numbered_file, scratch};
use crate::config::DiskAccess;
use crate::virtio::VirtioDevice;
use crate::virtio::test_driver::{NEXT, WRITE};

/// A driver that offers more than the device takes at a time, on a host with and without a ring.
#[test]
fn many_requests_are_each_answered_once() {
    for with_ring in [true, false] {
        let (mut bench, _file) = scratch();
        if !with_ring {
            bench.device.execution.refuse_ring();
        }
        for round in 0..20u8 {
            let offers: Vec<_> = (0..16u64)
                .map(|sector| match round % 2 {
                    0 => bench.driver.offer(&[&header(WRITE_SECTORS, sector), &[round; 512]], &[1]),
                    _ => bench.driver.offer(&[&header(READ, sector)], &[512, 1]),
                })
                .collect();
            bench.run().unwrap();
            let mut heads: Vec<u16> = bench.driver.returned().into_iter().map(|(head, _)| head).collect();
            let mut offered: Vec<u16> = offers.iter().map(|offer| offer.head).collect();
            heads.sort_unstable();
            offered.sort_unstable();
            assert_eq!(heads, offered, "round {round}, ring {with_ring}");
            for offer in &offers {
                let mut expected = if round % 2 == 0 { vec![] } else { vec![round - 1; 512] };
                expected.push(OK);
                assert_eq!(bench.driver.written(offer), expected);
            }
        }
        let counters = bench.disk.counters();
        assert_eq!((counters.reads, counters.writes, counters.errors), (160, 160, 0));
    }
}

#[test]
fn without_a_ring_everything_is_done_as_well() {
    let (mut bench, _file) = scratch();
    bench.device.execution.refuse_ring();
    assert_eq!(bench.request(WRITE_SECTORS, 3, &[7; 1024], 0).1, OK);
    assert_eq!(bench.request(FLUSH, 0, &[], 0).1, OK);
    assert_eq!(bench.read(3, 1024), [7; 1024]);
    assert_eq!(bench.request(READ, 128, &[], 512).1, IO_ERROR);
}

/// Two requests into one buffer are the guest's own confusion, and one of the two is what it reads.
#[test]
fn a_buffer_that_is_used_twice_harms_nothing() {
    let file = numbered_file(1, 4);
    let mut bench = Bench::new(4 * 512, DiskAccess::ReadOnly, vec![extent(&file, 0, 4)]);
    let data = bench.driver.reserve(512);
    let statuses = bench.driver.place(&[0xff; 4]);
    for (request, sector) in (0..4u16).zip(0..) {
        let place = bench.driver.place(&header(READ, sector));
        let first = request * 3;
        bench.driver.describe(first, Descriptor::new(place, 16, NEXT, first + 1));
        bench.driver.describe(first + 1, Descriptor::new(data, 512, NEXT | WRITE, first + 2));
        bench.driver.describe(first + 2, Descriptor::new(statuses + u64::from(request), 1, WRITE, 0));
        bench.driver.make_available(first);
    }
    bench.run().unwrap();
    assert_eq!(bench.driver.returned().len(), 4);
    let (mut said, mut bytes) = ([0xff; 4], [0; 512]);
    bench.memory.read_slice(&mut said, GuestAddress(statuses)).unwrap();
    assert_eq!(said, [OK; 4]);
    bench.memory.read_slice(&mut bytes, GuestAddress(data)).unwrap();
    assert!((1..=4).any(|number| bytes == [number; 512]));
}

#[test]
fn a_reset_leaves_nothing_under_way() {
    let (mut bench, file) = scratch();
    // What is not in the page cache is not read at once.
    file.as_file().sync_all().unwrap();
    rustix::fs::fadvise(file.as_file(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let offers: Vec<_> =
        (0..16).map(|sector| bench.driver.offer(&[&header(READ, sector)], &[512, 1])).collect();
    bench.device.queue_event(0, &bench.memory, &mut [&mut bench.queue]).unwrap();
    bench.device.reset();
    assert!(bench.device.execution.is_idle());
    // From here on nobody but the driver touches its buffers.
    let before: Vec<_> = offers.iter().map(|offer| bench.driver.written(offer)).collect();
    bench.device.host_event(&bench.memory, &mut [&mut bench.queue]).unwrap();
    let after: Vec<_> = offers.iter().map(|offer| bench.driver.written(offer)).collect();
    assert_eq!(before, after);
    bench.driver.returned();
    assert_eq!(bench.read(0, 512), [0xaa; 512], "and the next driver is served");
}

/// The ring's end of a file that was cut: the part that is there is not enough.
#[test]
fn a_read_beyond_a_cut_files_end_fails_with_and_without_a_ring() {
    for with_ring in [true, false] {
        let (mut bench, file) = scratch();
        if !with_ring {
            bench.device.execution.refuse_ring();
        }
        file.as_file().set_len(512 + 256).unwrap();
        assert_eq!(bench.request(READ, 0, &[], 1024).1, IO_ERROR);
        assert_eq!(bench.read(0, 512), [0xaa; 512]);
    }
}
