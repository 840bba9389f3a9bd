//! State files that are damaged, foreign or made up: each is refused, with the reason.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::format::*;
use super::pages::PageRun;
use crate::boot::cpuid::Virtualization;

/// The smallest machine there can be, with zeros for whatever KVM or a device checks by itself.
fn snapshot() -> Snapshot {
    let zeros = vec![0; 64 << 10];
    Snapshot {
        virtualization: Virtualization::Software,
        memory_bytes: 32 << 20,
        memory_files: MemoryFiles {
            base: 1,
            changes: Some(Changes { file: 2, runs: vec![PageRun { first: 3, count: 4 }] }),
        },
        vcpus: vec![postcard::from_bytes(&zeros).unwrap()],
        chips: postcard::from_bytes(&zeros).unwrap(),
        serial: postcard::from_bytes(&zeros).unwrap(),
        devices: Vec::new(),
    }
}

fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| snapshot().encode())
}

/// Puts other fields into the header and makes its checksum right.
fn with_header(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut other = file().to_vec();
    change(&mut other[..28]);
    let checksum = crc32fast::hash(&other[..28]);
    other[28..32].copy_from_slice(&checksum.to_le_bytes());
    other
}

fn refusal(file: &[u8]) -> String {
    Snapshot::parse(file).unwrap_err().to_string()
}

/// What a snapshot with another value somewhere is refused with, though all its checksums are right.
fn refusal_of(change: impl FnOnce(&mut Snapshot)) -> String {
    let mut other = snapshot();
    change(&mut other);
    refusal(&other.encode())
}

#[test]
fn what_was_written_is_read() {
    let parsed = Snapshot::parse(file()).unwrap();
    assert_eq!(parsed.encode(), file());
    assert_eq!(parsed.memory_files, snapshot().memory_files);
}

#[test]
fn every_flipped_bit_is_found() {
    for bit in (0..64 * 8).chain((0..file().len() * 8).step_by(61)) {
        let mut other = file().to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(Snapshot::parse(&other).is_err(), "bit {bit}");
    }
}

#[test]
fn every_missing_or_additional_byte_is_found() {
    for length in (0..64).chain((64..file().len()).step_by(97)) {
        assert!(Snapshot::parse(&file()[..length]).is_err(), "{length} bytes");
    }
    assert!(refusal(&[file(), &[0]].concat()).contains("bytes of state where"));
}

#[test]
fn other_versions_architectures_and_files_are_named() {
    assert_eq!(refusal(b"\x7fELF"), "is no snapshot of a machine");
    assert_eq!(refusal(b""), "is no snapshot of a machine");
    assert!(
        refusal(&with_header(|header| header[8] = 2)).contains("has format 2, this program reads format 1")
    );
    assert!(
        refusal(&with_header(|header| header[12] = 183)).contains("another architecture (ELF machine 183)")
    );
    assert!(refusal(&with_header(|header| header[16] ^= 1)).contains("bytes of state where"));
    assert!(refusal(&with_header(|header| header[24] ^= 1)).contains("its state's checksum"));
    let mut newer_in_every_way = file().to_vec();
    newer_in_every_way[8..].fill(0xff);
    assert!(refusal(&newer_in_every_way).contains("has format 4294967295"), "whatever its checksums say");
}

#[test]
fn made_up_values_are_refused_though_checksums_are_right() {
    for bytes in [0, 1 << 19, (32 << 20) + 4096, u64::MAX, 1 << 63] {
        assert!(refusal_of(|other| other.memory_bytes = bytes).contains("bytes of memory"), "{bytes:#x}");
    }
    assert!(refusal_of(|other| other.vcpus.clear()).contains("0 processors"));
    let run = |first, count| PageRun { first, count };
    let pages = (32 << 20) / 4096;
    let bad = [
        vec![run(pages, 1)],
        vec![run(pages - 1, 2)],
        vec![run(0, 0)],
        vec![run(u64::MAX, 2)],
        vec![run(1, u64::MAX)],
        vec![run(4, 4), run(7, 1)],
        vec![run(4, 1), run(2, 1)],
        (0..=MAX_CHANGED_RUNS as u64).map(|first| run(first, 1)).collect(),
    ];
    for runs in bad {
        let message =
            refusal_of(|other| other.memory_files.changes = Some(Changes { file: 1, runs: runs.clone() }));
        assert!(message.contains("changed pages"), "{message} for {} runs", runs.len());
    }
}

proptest! {
    /// Behind right checksums, too: whatever the state says, parsing it ends and harms nothing.
    #[test]
    fn any_state_is_read_or_refused(
        position in 0usize..16384,
        bytes in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut state = file()[32..].to_vec();
        let at = position % state.len();
        let end = (at + bytes.len()).min(state.len());
        state[at..end].copy_from_slice(&bytes[..end - at]);
        let mut other = with_header(|header| {
            header[24..28].copy_from_slice(&crc32fast::hash(&state).to_le_bytes());
        });
        other[32..].copy_from_slice(&state);
        drop(Snapshot::parse(&other));
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(Snapshot::parse(&bytes).is_err());
    }
}
