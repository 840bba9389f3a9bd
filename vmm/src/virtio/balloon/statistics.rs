//! What a driver says of its guest's memory (virtio 1.2, section 5.5.6.3).

use crate::control::GuestMemoryStatistics;

/// A 16-bit tag, and a value of 64 bits right behind it.
const ENTRY_BYTES: usize = 10;
/// There are sixteen tags in the specification; a driver of a later one may know more.
pub(super) const MAX_BYTES: usize = 64 * ENTRY_BYTES;

/// Reads whole entries; what is not known here is left out.
pub(super) fn parse(bytes: &[u8]) -> GuestMemoryStatistics {
    let mut statistics = GuestMemoryStatistics::default();
    for entry in bytes.chunks_exact(ENTRY_BYTES) {
        let (tag, value) = entry.split_at(2);
        let value = u64::from_le_bytes(value.try_into().expect("ten bytes without two"));
        let field = match u16::from_le_bytes(tag.try_into().expect("two bytes")) {
            0 => &mut statistics.swapped_in_bytes,
            1 => &mut statistics.swapped_out_bytes,
            2 => &mut statistics.major_faults,
            3 => &mut statistics.minor_faults,
            4 => &mut statistics.free_bytes,
            5 => &mut statistics.total_bytes,
            6 => &mut statistics.available_bytes,
            7 => &mut statistics.disk_cache_bytes,
            _ => continue,
        };
        *field = Some(value);
    }
    statistics
}
