//! Which parts of RAM a restored guest needs first, as recorded in an earlier life of the same snapshot.
//!
//! A hint: what is wrong with it costs time and nothing else, so a reader may ignore a file that does not parse.

use super::format::{FileId, FormatError};
use crate::config::MAX_MEMORY_MIB;

const MAGIC: [u8; 8] = *b"BRTHWSET";
/// Magic, memory file, count, checksum.
const HEADER_BYTES: usize = 24;
const CHUNK_ENTRY_BYTES: usize = 4;
/// A chunk is what a huge page covers, and what is loaded at a time.
pub(crate) const CHUNK_BYTES: u64 = 2 << 20;
const MAX_CHUNKS: usize = MAX_MEMORY_MIB as usize / 2;
pub(super) const MAX_BYTES: u64 = (HEADER_BYTES + MAX_CHUNKS * CHUNK_ENTRY_BYTES) as u64;

/// Chunks of a memory file, in the order in which they are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkingSet {
    /// The base memory file that it was recorded with: numbers mean nothing for another.
    pub(crate) base: FileId,
    /// Offsets in units of [`CHUNK_BYTES`].
    pub(crate) chunks: Vec<u32>,
}

impl WorkingSet {
    /// The inverse of [`Self::parse`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let list: Vec<u8> = self.chunks.iter().flat_map(|chunk| chunk.to_le_bytes()).collect();
        let count = u32::try_from(self.chunks.len()).expect("memory has fewer chunks");
        let mut file = MAGIC.to_vec();
        file.extend(self.base.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(checksum(&file, &list).to_le_bytes());
        file.extend(list);
        file
    }

    /// # Errors
    /// The bytes are no working set, or damaged.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let damaged = |problem: &str| FormatError::Damaged(problem.to_owned());
        if !file.starts_with(&MAGIC) {
            return Err(FormatError::Foreign);
        }
        let (header, list) = file.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("truncated"))?;
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| header[at + n]));
        if checksum(&header[..HEADER_BYTES - 4], list) != word(20) {
            return Err(damaged("its checksum is wrong"));
        }
        if list.len() != (word(16) as usize).saturating_mul(CHUNK_ENTRY_BYTES)
            || file.len() as u64 > MAX_BYTES
        {
            return Err(damaged("its length is wrong"));
        }
        let chunks = list
            .chunks_exact(CHUNK_ENTRY_BYTES)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().expect("chunks_exact gives that many")));
        let base = u64::from(word(8)) | u64::from(word(12)) << 32;
        Ok(Self { base, chunks: chunks.collect() })
    }
}

fn checksum(header: &[u8], list: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(list);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_found() {
        let whole = WorkingSet { base: 0x0123_4567_89ab_cdef, chunks: vec![3, 1, 400] };
        let file = whole.encode();
        assert_eq!(WorkingSet::parse(&file).unwrap(), whole);
        for bit in 0..file.len() * 8 {
            let mut other = file.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(WorkingSet::parse(&other).is_err(), "bit {bit}");
        }
        for length in 0..file.len() {
            assert!(WorkingSet::parse(&file[..length]).is_err(), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_chunks_survive(base: u64, chunks in proptest::collection::vec(any::<u32>(), 0..50)) {
            let set = WorkingSet { base, chunks };
            prop_assert_eq!(WorkingSet::parse(&set.encode()).unwrap(), set);
        }
    }
}
