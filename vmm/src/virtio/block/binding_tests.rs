//! Parts of a disk that get files and lose them while the device works.

use super::tests::{Bench, FLUSH, IO_ERROR, OK, WRITE_SECTORS, extent, numbered_file, range};
use super::tests::{DISCARD, WRITE_ZEROES};
use super::{BindError, VirtioDevice};
use crate::config::DiskAccess;

/// Two parts with room before, between and behind them.
fn two_parts() -> (Bench, [tempfile::NamedTempFile; 2]) {
    let (fixed, scratch) = (numbered_file(1, 4), numbered_file(10, 4));
    let bench = Bench::new(16 * 512, DiskAccess::ReadWrite, vec![]);
    let pieces = [extent(&fixed, 0, 1), extent(&fixed, 2, 2)];
    bench.disk.bind(2 * 512, Some(DiskAccess::ReadOnly), &pieces).unwrap();
    bench.disk.bind(8 * 512, None, &[extent(&scratch, 0, 4)]).unwrap();
    (bench, [fixed, scratch])
}

fn sectors(numbers: &[u8]) -> Vec<u8> {
    numbers.iter().flat_map(|number| [*number; 512]).collect()
}

#[test]
fn parts_lie_where_they_were_bound_and_zeros_between_them() {
    let (mut bench, _files) = two_parts();
    let whole = [0, 0, 1, 3, 4, 0, 0, 0, 10, 11, 12, 13, 0, 0, 0, 0];
    assert_eq!(bench.read(0, 16 * 512), sectors(&whole));
    assert_eq!(bench.read(4, 2 * 512), sectors(&[4, 0]));
    assert_eq!(bench.read(6, 3 * 512), sectors(&[0, 0, 10]));
    assert_eq!(bench.read(5, 512), sectors(&[0]));
}

#[test]
fn a_part_may_be_less_than_its_disk_and_never_more() {
    let (mut bench, [fixed, scratch]) = two_parts();
    assert_eq!(bench.request(WRITE_SECTORS, 2, &[9; 512], 0).1, IO_ERROR);
    assert_eq!(bench.request(DISCARD, 0, &range(3, 1, 0), 0).1, IO_ERROR);
    assert_eq!(bench.request(WRITE_ZEROES, 0, &range(1, 2, 1), 0).1, IO_ERROR);
    assert_eq!(bench.request(WRITE_SECTORS, 6, &[9; 512], 0).1, IO_ERROR, "nothing is bound there");
    assert_eq!(bench.request(WRITE_SECTORS, 11, &[9; 1024], 0).1, IO_ERROR, "half of it is");
    assert_eq!(bench.request(WRITE_SECTORS, 9, &[9; 1024], 0).1, OK);
    assert_eq!(bench.request(FLUSH, 0, &[], 0).1, OK);
    assert_eq!(std::fs::read(fixed.path()).unwrap(), sectors(&[1, 2, 3, 4]));
    assert_eq!(std::fs::read(scratch.path()).unwrap()[512..1536], [9; 1024]);

    let read_only = Bench::new(4096, DiskAccess::ReadOnly, vec![]);
    read_only.disk.bind(0, Some(DiskAccess::ReadWrite), &[extent(&scratch, 0, 1)]).unwrap();
    let mut bench = read_only;
    assert_eq!(bench.request(WRITE_SECTORS, 0, &[9; 512], 0).1, IO_ERROR);
}

#[test]
fn parts_do_not_overlap_and_stay_on_the_disk() {
    let (bench, [fixed, _scratch]) = two_parts();
    let bind = |sector: u64, sectors: u64| bench.disk.bind(sector * 512, None, &[extent(&fixed, 0, sectors)]);
    for (sector, sectors) in [(1, 2), (2, 1), (3, 1), (4, 1), (7, 2), (11, 1), (0, 4)] {
        assert!(matches!(bind(sector, sectors), Err(BindError::Bound)), "{sectors} at {sector}");
    }
    for (start, sectors) in [(15 * 512, 2), (16 * 512, 1), (17 * 512, 1), (u64::MAX - 511, 1), (100, 1)] {
        let bound = bench.disk.bind(start, None, &[extent(&fixed, 0, sectors)]);
        assert!(matches!(bound, Err(BindError::Invalid(_))), "{sectors} at {start}: {bound:?}");
    }
    for (sector, sectors) in [(0, 2), (5, 3), (12, 4)] {
        bind(sector, sectors).unwrap();
    }
}

#[test]
fn what_is_unbound_reads_zeros_and_is_free_for_others() {
    let (mut bench, [fixed, scratch]) = two_parts();
    bench.disk.unbind(3 * 512).unwrap();
    assert_eq!(bench.read(2, 3 * 512), sectors(&[1, 3, 4]), "nothing was bound from there on");
    bench.disk.unbind(8 * 512).unwrap();
    assert_eq!(bench.read(8, 512), sectors(&[0]));
    assert_eq!(bench.request(WRITE_SECTORS, 8, &[9; 512], 0).1, IO_ERROR);
    assert_eq!(bench.read(2, 3 * 512), sectors(&[1, 3, 4]), "the other part stays");
    bench.disk.unbind(2 * 512).unwrap();
    bench.disk.bind(0, None, &[extent(&fixed, 0, 4)]).unwrap();
    assert_eq!(bench.read(0, 5 * 512), sectors(&[1, 2, 3, 4, 0]));
    assert_eq!(std::fs::read(scratch.path()).unwrap(), sectors(&[10, 11, 12, 13]));
}

/// Whoever has the files next must not meet requests of whoever had them.
#[test]
fn an_unbinding_waits_for_the_requests_that_are_under_way() {
    let (mut bench, _files) = two_parts();
    bench.device.prepare();
    let (under_way, _offset) = bench.disk.place_for_writing(8 * 512, 512).unwrap();
    let disk = bench.disk.clone();
    let unbinding = std::thread::spawn(move || disk.unbind(8 * 512).map(|()| std::time::Instant::now()));
    while bench.disk.place(8 * 512, 512).is_some() {
        std::thread::yield_now();
    }
    assert!(!unbinding.is_finished());
    let ended_at = std::time::Instant::now();
    drop(under_way);
    assert!(unbinding.join().unwrap().unwrap() >= ended_at);
}
