//! Snapshots of anybody's: what is read of them is refused or in bounds, and what a device takes over it can live with.

use super::bench::Bench;
use super::input::Input;
use super::script::Subject;
use super::simple_devices::{self, RngSubject};
use crate::config::{MAX_MEMORY_MIB, MAX_VCPUS};
use crate::snapshot::{Snapshot, WorkingSet};
use crate::virtio::mmio::SavedDevice;
use crate::virtio::{Rng, VirtioDevice};

/// Where a working set's header ends, and where in it the checksum of everything else is.
const WORKING_SET_HEADER_BYTES: usize = 24;
const WORKING_SET_CHECKSUM: usize = 20;

/// A state file, the state in it, a working set, or one device's part; the first byte says which.
pub(super) fn snapshot(input: &[u8]) {
    let mut input = Input::new(input);
    match input.u8() % 4 {
        0 => state_file(input.bytes(usize::MAX)),
        1 => state_file(&Snapshot::seal(input.bytes(usize::MAX))),
        2 => working_set(input.bytes(usize::MAX)),
        _ => device(&mut input),
    }
}

fn state_file(file: &[u8]) {
    let Ok(snapshot) = Snapshot::parse(file) else { return };
    assert!(snapshot.memory_bytes <= u64::from(MAX_MEMORY_MIB) << 20);
    assert!((1..=usize::from(MAX_VCPUS)).contains(&snapshot.vcpus.len()));
    let pages = snapshot.memory_bytes / 4096;
    let runs = snapshot.memory_files.changes.iter().flat_map(|changes| &changes.runs);
    let end = runs.fold(0, |behind, run| {
        assert!(run.first >= behind && run.count > 0, "runs ascend");
        run.first + run.count
    });
    assert!(end <= pages, "changed pages lie in memory");
    let encoded = snapshot.encode();
    assert_eq!(Snapshot::parse(&encoded).expect("it was written by us").encode(), encoded);
}

/// The input's, with a checksum that is right, for no fuzzer finds one.
fn working_set(input: &[u8]) {
    let mut file = input.to_vec();
    if let Some((before, behind)) = input.split_at_checked(WORKING_SET_HEADER_BYTES) {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&before[..WORKING_SET_CHECKSUM]);
        hasher.update(behind);
        let checksum = hasher.finalize().to_le_bytes();
        file[WORKING_SET_CHECKSUM..WORKING_SET_HEADER_BYTES].copy_from_slice(&checksum);
    }
    let file = file.as_slice();
    if let Ok(set) = WorkingSet::parse(file) {
        assert_eq!(set.encode(), file, "nothing of the file was overlooked");
    }
}

/// One device's part of a snapshot, and memory for it to find what the driver left there.
fn device(input: &mut Input<'_>) {
    let kind = input.u8();
    let bytes = input.bytes(usize::MAX);
    match kind % 3 {
        0 => restore(Box::new(Rng), &mut RngSubject, bytes),
        1 => simple_devices::with_disk(|device, subject| restore(device, subject, bytes)),
        _ => {
            let (device, mut subject) = super::balloon::device();
            restore(Box::new(device), &mut subject, bytes);
        }
    }
}

fn restore(device: Box<dyn VirtioDevice>, subject: &mut dyn Subject, bytes: &[u8]) {
    let Ok((saved, memory)) = postcard::take_from_bytes::<SavedDevice>(bytes) else { return };
    let mut bench = Bench::new(device);
    bench.writes_anywhere();
    bench.space.write(0, memory);
    if bench.device.restore(&saved).is_ok() {
        let again = bench.device.hold().save().expect("these devices can be saved");
        assert_eq!(again, saved, "what was restored is what is saved");
        bench.device.resume();
        bench.run();
    }
    subject.check();
    bench.start(Bench::HONEST);
    subject.probe(&mut bench);
    bench.check();
}
