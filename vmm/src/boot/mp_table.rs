//! The MP table: how a kernel without ACPI learns of processors, the I/O APIC and its interrupt lines.
//!
//! Section numbers are of the MultiProcessor Specification 1.4. All fields are little-endian.

use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::config::MAX_VCPUS;
use crate::layout::{IO_APIC_PINS, IO_APIC_START, LOCAL_APIC_START, MP_TABLE_END, MP_TABLE_START};
use crate::memory::GuestMemoryMmap;

/// Section 4.1.
const POINTER_BYTES: usize = 16;
/// Section 4.2.
const HEADER_BYTES: usize = 44;
const HEADER_LENGTH_FIELD: usize = 4;
const HEADER_CHECKSUM_FIELD: usize = 7;
const HEADER_COUNT_FIELD: usize = 34;
/// Section 4.3: a processor's entry is longer than the others.
const PROCESSOR_BYTES: usize = 20;
const OTHER_BYTES: usize = 8;

/// Entry types (table 4-3).
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

/// The revision the structures follow: 1.4.
const SPECIFICATION: u8 = 4;
/// What the integrated APICs of KVM report as their version.
const APIC_VERSION: u8 = 0x14;
const ISA_BUS: u8 = 0;
/// Kinds of interrupt (table 4-10).
const VECTORED: u8 = 0;
const NMI: u8 = 1;
const EXTINT: u8 = 3;
/// Every local APIC.
const ALL_APICS: u8 = 0xff;

const LARGEST_BYTES: usize = POINTER_BYTES
    + HEADER_BYTES
    + MAX_VCPUS as usize * PROCESSOR_BYTES
    + (2 + IO_APIC_PINS as usize + 2) * OTHER_BYTES;
const _: () = assert!(LARGEST_BYTES as u64 <= MP_TABLE_END - MP_TABLE_START);

pub(super) fn write(memory: &GuestMemoryMmap, vcpus: u8) -> Result<(), BootError> {
    let table = [pointer().as_slice(), &configuration(vcpus)].concat();
    memory
        .write_slice(&table, GuestAddress(MP_TABLE_START))
        .map_err(|source| BootError::Write { what: "the MP table", source })
}

/// The floating pointer structure; the configuration follows it.
fn pointer() -> [u8; POINTER_BYTES] {
    let mut pointer = [0; POINTER_BYTES];
    let configuration = u32::try_from(MP_TABLE_START).expect("below 1 MiB") + 16;
    pointer[..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&configuration.to_le_bytes());
    pointer[8] = 1; // length in 16-byte units
    pointer[9] = SPECIFICATION;
    pointer[10] = checksum(&pointer);
    pointer
}

fn configuration(vcpus: u8) -> Vec<u8> {
    let mut table = header();
    let mut count: u16 = 0;
    for entry in entries(vcpus) {
        table.extend(entry);
        count += 1;
    }
    let length = u16::try_from(table.len()).expect("LARGEST_BYTES is below 1 KiB");
    table[HEADER_LENGTH_FIELD..][..2].copy_from_slice(&length.to_le_bytes());
    table[HEADER_COUNT_FIELD..][..2].copy_from_slice(&count.to_le_bytes());
    table[HEADER_CHECKSUM_FIELD] = checksum(&table);
    table
}

fn header() -> Vec<u8> {
    let mut header = vec![0; HEADER_BYTES];
    header[..4].copy_from_slice(b"PCMP");
    header[6] = SPECIFICATION;
    header[8..16].copy_from_slice(b"BERTH   ");
    header[16..28].copy_from_slice(b"MACHINE     ");
    header[36..40].copy_from_slice(&LOCAL_APIC_START.to_le_bytes());
    header
}

/// In the order the specification asks for: by type.
fn entries(vcpus: u8) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = (0..vcpus).map(processor).collect();
    let io_apic = vcpus;
    entries.push([&[BUS, ISA_BUS][..], b"ISA   "].concat());
    let mut chip = vec![IO_APIC, io_apic, APIC_VERSION, 1];
    chip.extend(IO_APIC_START.to_le_bytes());
    entries.push(chip);
    for line in 0..IO_APIC_PINS {
        let line = u8::try_from(line).expect("24 pins");
        entries.push(vec![IO_INTERRUPT, VECTORED, 0, 0, ISA_BUS, line, io_apic, line]);
    }
    entries.push(vec![LOCAL_INTERRUPT, EXTINT, 0, 0, ISA_BUS, 0, 0, 0]);
    entries.push(vec![LOCAL_INTERRUPT, NMI, 0, 0, ISA_BUS, 0, ALL_APICS, 1]);
    entries
}

/// Section 4.3.1. Signature and feature flags only mean something to kernels without CPUID.
fn processor(id: u8) -> Vec<u8> {
    const ENABLED: u8 = 1;
    const BOOT_PROCESSOR: u8 = 2;
    let flags = if id == 0 { ENABLED | BOOT_PROCESSOR } else { ENABLED };
    let mut entry = vec![0; PROCESSOR_BYTES];
    entry[..4].copy_from_slice(&[PROCESSOR, id, APIC_VERSION, flags]);
    entry
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn pointer_and_table_have_right_checksums_and_lengths() {
        assert_eq!(sum(&pointer()), 0);
        for vcpus in [1, 2, MAX_VCPUS] {
            let table = configuration(vcpus);
            assert_eq!(sum(&table), 0);
            assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
        }
        assert_eq!(POINTER_BYTES + configuration(MAX_VCPUS).len(), LARGEST_BYTES);
    }

    #[test]
    fn exactly_one_processor_boots() {
        let boots = entries(4).into_iter().filter(|entry| entry[0] == PROCESSOR && entry[3] & 2 != 0);
        assert_eq!(boots.map(|entry| entry[1]).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn the_kernel_finds_it_in_the_last_kib_of_low_memory() {
        let memory = crate::memory::allocate(32 << 20).unwrap();
        write(&memory, 2).unwrap();
        let mut signature = [0; 4];
        memory.read_slice(&mut signature, GuestAddress(0x9_fc00)).unwrap();
        assert_eq!(&signature, b"_MP_");
    }
}
