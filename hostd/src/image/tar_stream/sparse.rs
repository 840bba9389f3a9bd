//! Maps of sparse files, in GNU tar's formats: old, and pax 0.0, 0.1 and 1.0.

use std::io::{ErrorKind, Read};

use super::header::unsigned;
use super::{BLOCK_BYTES, TarError, pax};

/// A file with more pieces than this is not made by any real tool.
const MAX_SEGMENTS: usize = 1 << 17;
/// One segment in a header: two fields of 12 digits.
const ENTRY_BYTES: usize = 24;
/// The flag behind an extension block's 21 segments that says another block follows.
const MORE_FLAG: usize = 21 * ENTRY_BYTES;

/// A run of stored bytes within a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset_bytes: u64,
    pub(crate) length_bytes: u64,
}

pub(super) fn push(segments: &mut Vec<Segment>, segment: Segment) -> Result<(), TarError> {
    if segments.len() == MAX_SEGMENTS {
        return Err(TarError::Malformed("a sparse file of too many pieces"));
    }
    segments.push(segment);
    Ok(())
}

/// The old format's segments, up to the first empty one.
pub(super) fn parse_segments(fields: &[u8], segments: &mut Vec<Segment>) -> Result<(), TarError> {
    for entry in fields.chunks_exact(ENTRY_BYTES).take_while(|entry| entry[0] != 0) {
        let (offset, length) = entry.split_at(12);
        push(segments, Segment { offset_bytes: unsigned(offset)?, length_bytes: unsigned(length)? })?;
    }
    Ok(())
}

/// A block of further segments; says whether another follows.
pub(super) fn parse_extension_block(
    block: &[u8; BLOCK_BYTES],
    segments: &mut Vec<Segment>,
) -> Result<bool, TarError> {
    let before = segments.len();
    parse_segments(&block[..MORE_FLAG], segments)?;
    // A block that adds nothing could be followed by others without end.
    Ok(block[MORE_FLAG] != 0 && segments.len() > before)
}

/// The map in front of a 1.0 file's data: decimal numbers, one a line, padded to whole blocks.
pub(super) fn read_map(data: &mut impl Read) -> Result<Vec<Segment>, TarError> {
    let mut lines = Lines { data, block: Vec::new(), at: 0 };
    let count = lines.next_number()?;
    let mut segments = Vec::new();
    for _ in 0..count {
        let (offset_bytes, length_bytes) = (lines.next_number()?, lines.next_number()?);
        push(&mut segments, Segment { offset_bytes, length_bytes })?;
    }
    Ok(segments)
}

struct Lines<'a, R> {
    data: &'a mut R,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn next_number(&mut self) -> Result<u64, TarError> {
        let mut digits = Vec::new();
        loop {
            if self.at == self.block.len() {
                self.block.resize(BLOCK_BYTES, 0);
                self.data.read_exact(&mut self.block).map_err(|error| match error.kind() {
                    ErrorKind::UnexpectedEof => TarError::Malformed("it ends within a sparse map"),
                    _ => error.into(),
                })?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' if !digits.is_empty() => return pax::decimal(&digits),
                // No 64-bit number is longer.
                b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                _ => return Err(TarError::Malformed("a sparse map is malformed")),
            }
        }
    }
}

/// Segments must ascend, not overlap, lie within the file, and account for exactly the stored bytes.
pub(super) fn validate(segments: &[Segment], size_bytes: u64, stored_bytes: u64) -> Result<(), TarError> {
    let malformed = || TarError::Malformed("a sparse map does not fit its file");
    let (mut end, mut stored) = (0, 0_u64);
    for segment in segments {
        let next = segment.offset_bytes.checked_add(segment.length_bytes).ok_or_else(malformed)?;
        if segment.offset_bytes < end || next > size_bytes {
            return Err(malformed());
        }
        end = next;
        stored += segment.length_bytes;
    }
    if stored == stored_bytes { Ok(()) } else { Err(malformed()) }
}
