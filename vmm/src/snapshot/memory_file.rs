//! Guest memory in a file, sparsely: pages of zeros are holes.
//!
//! Behind the RAM is a trailer with the file's number, so that a file that was cut off, or belongs to another snapshot,
//! is recognized before anything of it is used. The RAM itself has no checksum: nobody reads all of it.
//!
//! ```text
//!   RAM | "BRTHMEM\0" | file's number u64 | RAM's length u64 | CRC-32 of the trailer so far
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use vm_memory::Bytes;

use super::format::FileId;
use super::pages::{PageRun, guest_address};
use crate::layout::PAGE_BYTES;
use crate::memory::GuestMemoryMmap;

const MAGIC: [u8; 8] = *b"BRTHMEM\0";
const TRAILER_BYTES: usize = 28;

#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryFileError {
    #[error("{found} bytes instead of {wanted}: it is truncated, or of a machine with other memory")]
    Length { found: u64, wanted: u64 },
    #[error("it is another snapshot's memory, or damaged")]
    Other,
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// Bytes copied out of the guest in one go.
const BLOCK_BYTES: u64 = 256 << 10;

/// Writes `runs` of pages into `file`, which is empty, at their offsets, and the trailer; gives the number of bytes of RAM
/// that were written. Nobody changes the memory meanwhile.
///
/// # Errors
/// The file system is full, or the host cannot provide a page.
pub(crate) fn write_pages(
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    runs: &[PageRun],
    file: &File,
    id: FileId,
) -> io::Result<u64> {
    file.write_all_at(&trailer(id, memory_bytes), memory_bytes)?;
    let mut block = vec![0; usize::try_from(BLOCK_BYTES).expect("a small number")];
    let mut written = 0;
    for run in runs {
        let (mut offset, end) = (run.start_bytes(), run.start_bytes() + run.length_bytes());
        while offset < end {
            let Some((address, contiguous)) = guest_address(memory_bytes, offset) else {
                return Err(io::Error::other("pages beyond the end of memory"));
            };
            let length = (end - offset).min(contiguous).min(BLOCK_BYTES);
            let part = &mut block[..usize::try_from(length).expect("at most a block")];
            memory.read_slice(part, address).map_err(io::Error::other)?;
            written += write_sparsely(file, part, offset)?;
            offset += length;
        }
    }
    Ok(written)
}

fn trailer(id: FileId, memory_bytes: u64) -> [u8; TRAILER_BYTES] {
    let mut trailer = [0; TRAILER_BYTES];
    trailer[..8].copy_from_slice(&MAGIC);
    trailer[8..16].copy_from_slice(&id.to_le_bytes());
    trailer[16..24].copy_from_slice(&memory_bytes.to_le_bytes());
    let checksum = crc32fast::hash(&trailer[..24]);
    trailer[24..].copy_from_slice(&checksum.to_le_bytes());
    trailer
}

/// Whether `file` is the memory file of that number.
///
/// # Errors
/// It is not.
pub(crate) fn check(file: &File, id: FileId, memory_bytes: u64) -> Result<(), MemoryFileError> {
    let (found, wanted) = (file.metadata()?.len(), memory_bytes + TRAILER_BYTES as u64);
    if found != wanted {
        return Err(MemoryFileError::Length { found, wanted });
    }
    let mut read = [0; TRAILER_BYTES];
    file.read_exact_at(&mut read, memory_bytes)?;
    if read == trailer(id, memory_bytes) { Ok(()) } else { Err(MemoryFileError::Other) }
}

/// Writes the pages of `block` that are not zero.
fn write_sparsely(file: &File, block: &[u8], offset_bytes: u64) -> io::Result<u64> {
    let page_bytes = usize::try_from(PAGE_BYTES).expect("a page is 4 KiB");
    let mut written = 0;
    let mut start = 0;
    while start < block.len() {
        let pages = block[start..].chunks(page_bytes);
        let zeros = pages.clone().take_while(|page| is_zero(page)).count() * page_bytes;
        let from = (start + zeros).min(block.len());
        let content: usize =
            block[from..].chunks(page_bytes).take_while(|page| !is_zero(page)).map(<[u8]>::len).sum();
        file.write_all_at(&block[from..from + content], offset_bytes + from as u64)?;
        written += content as u64;
        start = from + content;
    }
    Ok(written)
}

fn is_zero(page: &[u8]) -> bool {
    // In words: the compiler makes vector instructions of it.
    let (head, words, tail) = (page.len() % 8, page.chunks_exact(8), &page[page.len() - page.len() % 8..]);
    let mut any = 0;
    for word in words {
        any |= u64::from_ne_bytes(word.try_into().expect("eight bytes"));
    }
    any == 0 && (head == 0 || tail.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use vm_memory::GuestAddress;

    use super::*;
    use crate::memory;

    const MEMORY_BYTES: u64 = 16 << 20;

    #[test]
    fn pages_of_zeros_are_holes_and_others_are_where_they_were() {
        let memory = memory::allocate(MEMORY_BYTES).unwrap();
        for page in [0, 1, 5, 100, 4095] {
            memory.write_obj(page + 1, GuestAddress(page * PAGE_BYTES + 4088)).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        let all = [PageRun { first: 0, count: MEMORY_BYTES / PAGE_BYTES }];
        assert_eq!(write_pages(&memory, MEMORY_BYTES, &all, &file, 7).unwrap(), 5 * PAGE_BYTES);
        assert!(file.metadata().unwrap().blocks() * 512 <= 16 * PAGE_BYTES);
        let mut word = [0; 8];
        file.read_exact_at(&mut word, 4096 * PAGE_BYTES - 8).unwrap();
        assert_eq!(u64::from_ne_bytes(word), 4096);
    }

    #[test]
    fn only_the_wanted_pages_are_written() {
        let memory = memory::allocate(MEMORY_BYTES).unwrap();
        memory.write_slice(&[7; 4 << 12], GuestAddress(0)).unwrap();
        let file = tempfile::tempfile().unwrap();
        let runs = [PageRun { first: 1, count: 1 }, PageRun { first: 3, count: 5 }];
        assert_eq!(write_pages(&memory, MEMORY_BYTES, &runs, &file, 7).unwrap(), 2 * PAGE_BYTES);
        let mut bytes = vec![1; 5 << 12];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let pages: Vec<u8> = bytes.chunks(1 << 12).map(|page| page[0]).collect();
        assert_eq!(pages, [0, 7, 0, 7, 0]);
    }

    #[test]
    fn a_file_is_known_by_its_number_and_its_length() {
        let memory = memory::allocate(MEMORY_BYTES).unwrap();
        let file = tempfile::tempfile().unwrap();
        write_pages(&memory, MEMORY_BYTES, &[], &file, 7).unwrap();
        check(&file, 7, MEMORY_BYTES).unwrap();
        assert!(matches!(check(&file, 8, MEMORY_BYTES), Err(MemoryFileError::Other)));
        assert!(matches!(check(&file, 7, MEMORY_BYTES * 2), Err(MemoryFileError::Length { .. })));
        file.set_len(MEMORY_BYTES + 27).unwrap();
        assert!(matches!(check(&file, 7, MEMORY_BYTES), Err(MemoryFileError::Length { .. })));
        file.set_len(MEMORY_BYTES + 28).unwrap();
        assert!(matches!(check(&file, 7, MEMORY_BYTES), Err(MemoryFileError::Other)));
    }

    #[test]
    fn pages_beyond_memory_are_an_error() {
        let memory = memory::allocate(MEMORY_BYTES).unwrap();
        let file = tempfile::tempfile().unwrap();
        let beyond = [PageRun { first: MEMORY_BYTES / PAGE_BYTES, count: 1 }];
        assert!(write_pages(&memory, MEMORY_BYTES, &beyond, &file, 7).is_err());
    }
}
