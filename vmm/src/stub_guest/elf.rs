//! The smallest file that the kernel loader takes for a kernel: one header, one segment, the program.

use crate::layout::HIGH_RAM_START;

/// Where programs are loaded and entered.
pub(super) const LOAD_ADDRESS: u64 = HIGH_RAM_START;

const HEADER_BYTES: u16 = 64;
const SEGMENT_HEADER_BYTES: u16 = 56;
const FILE_OFFSET: u64 = (HEADER_BYTES + SEGMENT_HEADER_BYTES) as u64;

/// An ELF64 executable (System V ABI, chapter 4) that holds `program` at [`LOAD_ADDRESS`].
pub(super) fn wrap(program: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2u16.to_le_bytes()); // executable
    file.extend(62u16.to_le_bytes()); // x86-64
    file.extend(1u32.to_le_bytes());
    file.extend(LOAD_ADDRESS.to_le_bytes()); // entry
    file.extend(u64::from(HEADER_BYTES).to_le_bytes()); // program headers' offset
    file.extend(0u64.to_le_bytes()); // no section headers
    file.extend(0u32.to_le_bytes());
    for field in [HEADER_BYTES, SEGMENT_HEADER_BYTES, 1, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // to be loaded
    file.extend(7u32.to_le_bytes()); // readable, writable, executable
    let bytes = program.len() as u64;
    for field in [FILE_OFFSET, LOAD_ADDRESS, LOAD_ADDRESS, bytes, bytes, 0x1000] {
        file.extend(field.to_le_bytes());
    }
    assert_eq!(file.len() as u64, FILE_OFFSET);
    file.extend(program);
    file
}
