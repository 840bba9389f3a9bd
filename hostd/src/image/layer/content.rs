//! The contents of files on their way to disk: whole blocks to the data file, short tails to the index file.
//!
//! Everything is appended. Blocks of zeros become holes where they come in numbers: a sparse file stays sparse, and a
//! bomb of zeros costs no disk.

use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::entry::FilePlace;
use super::space::SpaceWatch;
use super::{BLOCK_BYTES, LayerError, MAX_TAIL_BYTES, MAX_XATTR_BYTES_WITH_TAIL};
use crate::image::tar_stream::{Segment, TarError};

/// The image disk addresses blocks with 32 bits: 16 TiB.
const MAX_DATA_BYTES: u64 = BLOCK_BYTES * u32::MAX as u64;
/// [`BLOCK_BYTES`], for memory.
pub(super) const BLOCK: usize = 4096;
const BUFFER_BYTES: usize = 64 * BLOCK;
/// Fewer blocks of zeros in a row are written: each hole costs the host's file system an extent.
const MIN_HOLE_BLOCKS: usize = 8;

/// Where contents go, and what that has come to.
pub(super) struct ContentWriter {
    data: BlockFile,
    /// The index file's beginning.
    tails: BufWriter<File>,
    tails_path: PathBuf,
    tails_end_bytes: u64,
    tails_checksum: crc32fast::Hasher,
    tails_space: SpaceWatch,
}

/// What was written.
pub(super) struct Written {
    pub(super) data_bytes: u64,
    pub(super) data_checksum: u32,
    pub(super) tails_checksum: u32,
    /// The index file, at whose end the entries go.
    pub(super) index: BufWriter<File>,
    pub(super) tails_end_bytes: u64,
}

impl ContentWriter {
    /// New files; the index begins with `magic`.
    pub(super) fn create(data: PathBuf, index: PathBuf, magic: &[u8]) -> Result<Self, LayerError> {
        let failed = |source| LayerError::Write { path: index.clone(), source };
        let mut tails = BufWriter::with_capacity(BUFFER_BYTES, File::create_new(&index).map_err(failed)?);
        tails.write_all(magic).map_err(failed)?;
        Ok(Self {
            data: BlockFile::create(data)?,
            tails,
            tails_end_bytes: magic.len() as u64,
            tails_checksum: crc32fast::Hasher::new(),
            tails_space: SpaceWatch::new(&index),
            tails_path: index,
        })
    }

    /// Takes one file's stored bytes from `source`; says where its content is now.
    pub(super) fn append(
        &mut self,
        size_bytes: u64,
        xattr_bytes: usize,
        segments: &[Segment],
        source: &mut impl BufRead,
    ) -> Result<FilePlace, LayerError> {
        let tail_bytes = size_bytes % BLOCK_BYTES;
        let in_index = (1..=MAX_TAIL_BYTES).contains(&tail_bytes) && xattr_bytes <= MAX_XATTR_BYTES_WITH_TAIL;
        let whole_bytes = if in_index { size_bytes - tail_bytes } else { size_bytes };
        let data_offset_bytes = self.data.begin(whole_bytes)?;
        let mut tail = [0; BLOCK];
        for segment in segments {
            let mut offset_bytes = segment.offset_bytes;
            let mut left_bytes = segment.length_bytes;
            while left_bytes > 0 {
                let available = source.fill_buf().map_err(TarError::Read)?;
                let limit = if offset_bytes < whole_bytes { whole_bytes - offset_bytes } else { left_bytes };
                let piece = at_most(available, left_bytes.min(limit));
                if piece.is_empty() {
                    return Err(TarError::Malformed("it ends within a member").into());
                }
                let count = piece.len();
                match offset_bytes.checked_sub(whole_bytes) {
                    None => self.data.put(data_offset_bytes + offset_bytes, piece)?,
                    Some(at) => {
                        let at = usize::try_from(at).expect("within a block");
                        tail[at..at + count].copy_from_slice(piece);
                    }
                }
                source.consume(count);
                offset_bytes += count as u64;
                left_bytes -= count as u64;
            }
        }
        self.data.end(data_offset_bytes + whole_bytes)?;
        let tail = at_most(&tail, if in_index { tail_bytes } else { 0 });
        Ok(FilePlace { data_offset_bytes, tail_offset_bytes: self.put_tail(tail)? })
    }

    /// Bytes that take room on the disk so far.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.data.stored_bytes + self.tails_end_bytes
    }

    /// Writes what is buffered and makes the data file durable.
    pub(super) fn finish(self) -> Result<Written, LayerError> {
        let (data_bytes, data_checksum) = self.data.finish()?;
        let tails_checksum = self.tails_checksum.finalize();
        let (index, tails_end_bytes) = (self.tails, self.tails_end_bytes);
        Ok(Written { data_bytes, data_checksum, tails_checksum, index, tails_end_bytes })
    }

    fn put_tail(&mut self, tail: &[u8]) -> Result<Option<u64>, LayerError> {
        if tail.is_empty() {
            return Ok(None);
        }
        let offset_bytes = self.tails_end_bytes;
        self.tails_space.take(self.tails.get_ref(), tail.len() as u64)?;
        self.tails_checksum.update(tail);
        self.tails
            .write_all(tail)
            .map_err(|source| LayerError::Write { path: self.tails_path.clone(), source })?;
        self.tails_end_bytes += tail.len() as u64;
        Ok(Some(offset_bytes))
    }
}

/// The data file: pieces in ascending order, zeros between them, every file from a block's start on.
struct BlockFile {
    path: PathBuf,
    file: File,
    space: SpaceWatch,
    /// What comes at `buffer_offset_bytes`, a multiple of the block size.
    buffer: Vec<u8>,
    buffer_offset_bytes: u64,
    stored_bytes: u64,
    checksum: BlockChecksum,
}

impl BlockFile {
    fn create(path: PathBuf) -> Result<Self, LayerError> {
        match File::create_new(&path) {
            Ok(file) => Ok(Self {
                space: SpaceWatch::new(&path),
                path,
                file,
                buffer: Vec::with_capacity(BUFFER_BYTES),
                buffer_offset_bytes: 0,
                stored_bytes: 0,
                checksum: BlockChecksum::default(),
            }),
            Err(source) => Err(LayerError::Write { path, source }),
        }
    }

    fn position_bytes(&self) -> u64 {
        self.buffer_offset_bytes + self.buffer.len() as u64
    }

    /// Where a file of this length begins; the one before was ended.
    fn begin(&self, size_bytes: u64) -> Result<u64, LayerError> {
        let start_bytes = self.position_bytes();
        let end =
            start_bytes.checked_add(size_bytes).and_then(|end| end.checked_next_multiple_of(BLOCK_BYTES));
        let fits = end.is_some_and(|end| end <= MAX_DATA_BYTES);
        if fits { Ok(start_bytes) } else { Err(LayerError::TooLarge("files of more than 16 TiB")) }
    }

    fn put(&mut self, offset_bytes: u64, mut piece: &[u8]) -> Result<(), LayerError> {
        self.zeros_to(offset_bytes)?;
        while !piece.is_empty() {
            if self.buffer.is_empty() && piece.len() >= BUFFER_BYTES {
                let (whole, rest) = piece.split_at(piece.len() / BLOCK * BLOCK);
                self.write_blocks(whole)?;
                piece = rest;
                continue;
            }
            let (now, later) = piece.split_at(piece.len().min(BUFFER_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            piece = later;
            if self.buffer.len() == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Ends a file: zeros up to its length, and to the end of its last block.
    fn end(&mut self, end_bytes: u64) -> Result<(), LayerError> {
        self.zeros_to(end_bytes.next_multiple_of(BLOCK_BYTES))
    }

    fn zeros_to(&mut self, target_bytes: u64) -> Result<(), LayerError> {
        let gap_bytes = target_bytes.checked_sub(self.position_bytes()).expect("pieces ascend");
        let room = BUFFER_BYTES - self.buffer.len();
        if let Ok(gap) = usize::try_from(gap_bytes)
            && gap < room
        {
            self.buffer.resize(self.buffer.len() + gap, 0);
            return Ok(());
        }
        // Beyond what is buffered all is a hole, up to the block in which the next piece begins.
        self.buffer.resize(self.buffer.len().next_multiple_of(BLOCK), 0);
        self.flush()?;
        self.buffer_offset_bytes = target_bytes / BLOCK_BYTES * BLOCK_BYTES;
        self.buffer.resize(usize::try_from(target_bytes % BLOCK_BYTES).expect("within a block"), 0);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LayerError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write_blocks(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    /// Writes whole blocks where the buffer begins, but for long runs of zeros.
    fn write_blocks(&mut self, blocks: &[u8]) -> Result<(), LayerError> {
        debug_assert!(self.buffer.is_empty() && blocks.len().is_multiple_of(BLOCK));
        let start_bytes = self.buffer_offset_bytes;
        let (mut from, mut zeros_from) = (0, 0);
        for (number, block) in blocks.chunks_exact(BLOCK).enumerate() {
            if is_zero(block) {
                continue;
            }
            self.checksum.update(start_bytes / BLOCK_BYTES + number as u64, block);
            if number - zeros_from >= MIN_HOLE_BLOCKS || zeros_from == 0 {
                self.write_at(start_bytes, blocks, from..zeros_from)?;
                from = number;
            }
            zeros_from = number + 1;
        }
        self.write_at(start_bytes, blocks, from..zeros_from)?;
        self.buffer_offset_bytes += blocks.len() as u64;
        Ok(())
    }

    fn write_at(
        &mut self,
        start_bytes: u64,
        blocks: &[u8],
        range: std::ops::Range<usize>,
    ) -> Result<(), LayerError> {
        let bytes = &blocks[range.start * BLOCK..range.end * BLOCK];
        if bytes.is_empty() {
            return Ok(());
        }
        self.space.take(&self.file, bytes.len() as u64)?;
        self.stored_bytes += bytes.len() as u64;
        let offset_bytes = start_bytes + (range.start * BLOCK) as u64;
        self.file.write_all_at(bytes, offset_bytes).map_err(|source| self.failed(source))
    }

    fn finish(mut self) -> Result<(u64, u32), LayerError> {
        self.flush()?;
        let end_bytes = self.buffer_offset_bytes;
        let durable = self.file.set_len(end_bytes).and_then(|()| self.file.sync_all());
        durable.map_err(|source| self.failed(source))?;
        Ok((end_bytes, self.checksum.finish()))
    }

    fn failed(&self, source: io::Error) -> LayerError {
        LayerError::Write { path: self.path.clone(), source }
    }
}

/// Over the blocks that are not all zeros, each with its number: holes need not be read.
#[derive(Default)]
pub(super) struct BlockChecksum(crc32fast::Hasher);

impl BlockChecksum {
    /// The next block that is not all zeros.
    pub(super) fn update(&mut self, number: u64, block: &[u8]) {
        self.0.update(&number.to_le_bytes());
        self.0.update(block);
    }

    pub(super) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// Ordinary blocks say no within their first bytes.
pub(super) fn is_zero(block: &[u8]) -> bool {
    block.chunks(32).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

fn at_most(bytes: &[u8], limit_bytes: u64) -> &[u8] {
    &bytes[..bytes.len().min(usize::try_from(limit_bytes).unwrap_or(usize::MAX))]
}
