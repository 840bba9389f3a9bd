//! The guest that both monitors start: it writes one byte to the first serial port and rests.
//!
//! One file, two ways in. Our monitor enters an ELF kernel in 64-bit mode at its entry; QEMU enters it in 32-bit mode
//! where its PVH note says. The program's bytes mean the same in both modes.
//!
//! It exists as a file of its own, and in place of the first instructions of a real kernel: then everything is loaded
//! that this kernel has, and no time goes into executing it.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// What the guest writes.
pub(super) const BYTE: u8 = b'!';

const LOAD_ADDRESS: u64 = 0x10_0000;
/// Program and note lie in the file's second page and in one page of the guest's.
const FILE_OFFSET: u64 = 0x1000;
const SEGMENT_BYTES: u64 = 0x1000;
const NOTE_OFFSET: u64 = 0x800;

const HEADER_BYTES: u16 = 64;
const SEGMENT_HEADER_BYTES: u16 = 56;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_NOTE: u32 = 4;

/// mov edx, 0x3f8; mov al, BYTE; out dx, al; cli; 1: hlt; jmp 1b.
const PROGRAM: [u8; 12] = [0xba, 0xf8, 0x03, 0x00, 0x00, 0xb0, BYTE, 0xee, 0xfa, 0xf4, 0xeb, 0xfd];

/// The same, for ever: mov edx, 0x3f8; mov al, BYTE; 1: out dx, al; jmp 1b.
const TALKER: [u8; 12] = [0xba, 0xf8, 0x03, 0x00, 0x00, 0xb0, BYTE, 0xee, 0xeb, 0xfd, 0xf4, 0xf4];

/// Writes the ELF file.
pub(super) fn write(path: &Path) -> anyhow::Result<()> {
    write_elf(path, &PROGRAM)
}

/// Writes an ELF file whose program never stops writing the byte.
pub(super) fn write_talker(path: &Path) -> anyhow::Result<()> {
    write_elf(path, &TALKER)
}

fn write_elf(path: &Path, program: &[u8]) -> anyhow::Result<()> {
    fs::write(path, elf(program)).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a copy of the ELF file `kernel` that has the program at both entries.
///
/// # Errors
/// It is no such file, or has no entry for QEMU.
pub(super) fn write_into(kernel: &Path, path: &Path) -> anyhow::Result<()> {
    let mut file = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    for entry in entries(&file).with_context(|| format!("{} lacks entries", kernel.display()))? {
        let Some(place) = file.get_mut(entry..).and_then(|rest| rest.get_mut(..PROGRAM.len())) else {
            bail!("{}: an entry lies outside", kernel.display());
        };
        place.copy_from_slice(&PROGRAM);
    }
    fs::write(path, file).with_context(|| format!("cannot write {}", path.display()))
}

/// Where in the file the two entries are: the header's, and the one that the note names.
fn entries(file: &[u8]) -> Option<[usize; 2]> {
    let segments = segments(file)?;
    let offset_of = |address: u64| {
        let inside = |segment: &&Segment| {
            segment.kind == SEGMENT_LOAD
                && (segment.address..segment.address + segment.bytes).contains(&address)
        };
        let segment = segments.iter().find(inside)?;
        usize::try_from(segment.offset + (address - segment.address)).ok()
    };
    let note = segments.iter().find(|segment| segment.kind == SEGMENT_NOTE)?;
    let notes = file.get(usize::try_from(note.offset).ok()?..)?;
    // The note's name and type; the entry follows.
    let at = notes.windows(8).position(|window| window == b"\x12\0\0\0Xen\0")?;
    Some([offset_of(word(file, 24)?)?, offset_of(word(notes, at + 8)?)?])
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    bytes: u64,
}

fn segments(file: &[u8]) -> Option<Vec<Segment>> {
    let table = usize::try_from(word(file, 32)?).ok()?;
    let count = usize::from(u16::from_le_bytes(file.get(56..58)?.try_into().ok()?));
    let segment = |index: usize| {
        let header = table + index * usize::from(SEGMENT_HEADER_BYTES);
        let kind = u32::from_le_bytes(file.get(header..header + 4)?.try_into().ok()?);
        let field = |at: usize| word(file, header + at);
        Some(Segment { kind, offset: field(8)?, address: field(24)?, bytes: field(32)? })
    };
    (0..count).map(segment).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// An ELF64 executable (System V ABI, chapter 4) of one segment, and a note inside it.
fn elf(program: &[u8]) -> Vec<u8> {
    let note = pvh_note();
    let mut file = header();
    file.extend(segment_header(SEGMENT_LOAD, 0, SEGMENT_BYTES));
    file.extend(segment_header(SEGMENT_NOTE, NOTE_OFFSET, note.len() as u64));
    file.resize(to_index(FILE_OFFSET), 0);
    file.extend(program);
    file.resize(to_index(FILE_OFFSET + NOTE_OFFSET), 0);
    file.extend(note);
    file.resize(to_index(FILE_OFFSET + SEGMENT_BYTES), 0);
    file
}

fn to_index(offset: u64) -> usize {
    usize::try_from(offset).expect("two pages")
}

fn header() -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend(2u16.to_le_bytes()); // executable
    header.extend(62u16.to_le_bytes()); // x86-64
    header.extend(1u32.to_le_bytes());
    header.extend(LOAD_ADDRESS.to_le_bytes()); // entry
    header.extend(u64::from(HEADER_BYTES).to_le_bytes()); // segment headers' offset
    header.extend(0u64.to_le_bytes()); // no section headers
    header.extend(0u32.to_le_bytes());
    for field in [HEADER_BYTES, SEGMENT_HEADER_BYTES, 2, 0, 0, 0] {
        header.extend(field.to_le_bytes());
    }
    header
}

fn segment_header(kind: u32, offset: u64, bytes: u64) -> Vec<u8> {
    const READABLE_WRITABLE_EXECUTABLE: u32 = 7;
    const ALIGNMENT: u64 = 4;
    let mut header = [kind.to_le_bytes(), READABLE_WRITABLE_EXECUTABLE.to_le_bytes()].concat();
    let address = LOAD_ADDRESS + offset;
    for field in [FILE_OFFSET + offset, address, address, bytes, bytes, ALIGNMENT] {
        header.extend(field.to_le_bytes());
    }
    header
}

/// `XEN_ELFNOTE_PHYS32_ENTRY` (x86/HVM direct boot ABI): where to enter in 32-bit mode.
fn pvh_note() -> Vec<u8> {
    const PHYS32_ENTRY: u32 = 18;
    let mut note = Vec::new();
    for field in [4, 8, PHYS32_ENTRY] {
        note.extend(field.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(LOAD_ADDRESS.to_le_bytes());
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_begins_where_both_entries_point() {
        let file = elf(&PROGRAM);
        assert_eq!(file.len(), 0x2000);
        assert_eq!(file[0x1000..][..PROGRAM.len()], PROGRAM);
        assert_eq!(entries(&file).unwrap(), [0x1000, 0x1000]);
        assert_eq!(word(&file, 24).unwrap(), LOAD_ADDRESS);
    }

    #[test]
    fn what_is_no_kernel_has_no_entries() {
        assert!(entries(b"#!/bin/sh").is_none());
        assert!(entries(&elf(&PROGRAM)[..0x1000]).is_none());
    }
}
