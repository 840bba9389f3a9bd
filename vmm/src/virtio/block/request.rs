//! What a driver asks of a block device, as the bytes of a chain say it (virtio 1.2, section 5.2.6).

use crate::config::SECTOR_BYTES;
use crate::memory::GuestMemoryMmap;
use crate::virtio::Broken;
use crate::virtio::chain::{Chain, Segments};

/// The most ranges one discard or write-zeroes request may name; announced in the configuration space.
pub(super) const MAX_RANGES: usize = 32;
/// `GET_ID` always has this many bytes.
pub(super) const ID_BYTES: usize = 20;

const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;
const FLAG_UNMAP: u32 = 1;

/// One request, its data still in guest memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read {
        start: u64,
        into: Segments,
    },
    Write {
        start: u64,
        from: Segments,
    },
    Flush,
    GetId {
        into: Segments,
    },
    Discard(Vec<Range>),
    WriteZeroes(Vec<Range>),
    /// Understood by nobody here, or with impossible values: answered, not done.
    Unsupported,
    Malformed,
}

impl Request {
    /// For the log: what could not be done.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Read { start, into } => format!("read {} bytes at {start}", into.len()),
            Self::Write { start, from } => format!("write {} bytes at {start}", from.len()),
            Self::Flush => "flush".to_owned(),
            Self::Discard(ranges) => format!("discard {} ranges", ranges.len()),
            Self::WriteZeroes(ranges) => format!("zero {} ranges", ranges.len()),
            Self::GetId { .. } | Self::Unsupported | Self::Malformed => "answer a request".to_owned(),
        }
    }
}

/// A range of the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) may_unmap: bool,
}

/// Reads the request out of a chain. The status byte, last of the writable part, is not part of it.
///
/// # Errors
/// A chain without a whole header or without a status byte: there is no way to answer it.
pub(super) fn parse(chain: &Chain, memory: &GuestMemoryMmap) -> Result<Request, Broken> {
    let mut header = [0; HEADER_BYTES];
    chain.readable.read(memory, &mut header)?;
    let Some(writable) = chain.writable.len().checked_sub(1) else {
        return Err(Broken("a block request without a status byte".into()));
    };
    let into = chain.writable.range(0, writable);
    let from = chain.readable.range(HEADER_BYTES, chain.readable.len() - HEADER_BYTES);
    let kind = u32_at(&header, 0);
    let start = u64_at(&header, 8).checked_mul(SECTOR_BYTES);
    Ok(match (kind, start) {
        (0, Some(start)) if is_whole(&into) => Request::Read { start, into },
        (1, Some(start)) if is_whole(&from) => Request::Write { start, from },
        (0 | 1, _) => Request::Malformed,
        (4, _) => Request::Flush,
        (8, _) if into.len() >= ID_BYTES => Request::GetId { into },
        (11, _) => ranges(&from, memory)?.map_or(Request::Malformed, Request::Discard),
        (13, _) => ranges(&from, memory)?.map_or(Request::Malformed, Request::WriteZeroes),
        _ => Request::Unsupported,
    })
}

fn is_whole(data: &Segments) -> bool {
    data.len() > 0 && (data.len() as u64).is_multiple_of(SECTOR_BYTES)
}

fn ranges(from: &Segments, memory: &GuestMemoryMmap) -> Result<Option<Vec<Range>>, Broken> {
    if from.len() == 0 || from.len() > MAX_RANGES * RANGE_BYTES || !from.len().is_multiple_of(RANGE_BYTES) {
        return Ok(None);
    }
    let mut bytes = vec![0; from.len()];
    from.read(memory, &mut bytes)?;
    Ok(bytes.chunks_exact(RANGE_BYTES).map(range).collect())
}

fn range(bytes: &[u8]) -> Option<Range> {
    let flags = u32_at(bytes, 12);
    let start = u64_at(bytes, 0).checked_mul(SECTOR_BYTES)?;
    let length = u64::from(u32_at(bytes, 8)) * SECTOR_BYTES;
    (flags & !FLAG_UNMAP == 0).then_some(Range { start, length, may_unmap: flags & FLAG_UNMAP != 0 })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
