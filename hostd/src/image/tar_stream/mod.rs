//! A strict, bounded reader of tar streams (POSIX.1-2017 pax, ustar, GNU, v7): members in order, bytes in between.
//!
//! It reads hostile input and creates nothing. Where parsers are known to disagree (sizes in pax records, types that
//! carry no data, binary extended attributes) it does what Go's `archive/tar` does, because images are made with it.
//! Members' paths are passed on as they stand: judging them is the caller's business.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead, Read};

use header::{Header, HeaderKind};
use pax::PaxRecords;
pub(crate) use sparse::Segment;

const BLOCK_BYTES: usize = 512;
/// Extension headers (long names, pax records) beyond this are refused, as Go refuses them.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Why a stream is no readable tar archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("reading the tar stream")]
    Read(#[from] io::Error),
    #[error("malformed tar archive: {0}")]
    Malformed(&'static str),
    #[error("malformed tar archive: {path:?}: {problem}")]
    Member { path: String, problem: &'static str },
}

/// Seconds since 1970 and nanoseconds above them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModificationTime {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberKind {
    /// `segments` say where in the file the stored bytes belong; the rest of its `size_bytes` is zeros.
    File {
        size_bytes: u64,
        segments: Vec<Segment>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    HardLink {
        target: Vec<u8>,
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Extended attributes: full names (`security.capability`) and values.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One member's header with its extensions applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: MemberKind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: ModificationTime,
    /// In order of names.
    pub(crate) xattrs: Xattrs,
}

/// The members of a stream. Reading from it gives the current member's stored bytes.
pub(crate) struct TarStream<R> {
    source: R,
    /// Stored bytes of the current member that were not read yet.
    remaining_bytes: u64,
    /// Zeros after them, up to the next whole block.
    padding_bytes: u64,
}

/// Headers that describe the member that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<PaxRecords>,
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, remaining_bytes: 0, padding_bytes: 0 }
    }

    /// Skips what is left of the current member and reads the next header; `None` at the archive's end.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.next_header()? else {
                let dangling =
                    extensions.path.is_some() || extensions.link.is_some() || extensions.pax.is_some();
                return if dangling { Err(TarError::Malformed("it ends within a member")) } else { Ok(None) };
            };
            match header.kind() {
                HeaderKind::LongPath => set_once(&mut extensions.path, self.read_text(&header)?)?,
                HeaderKind::LongLink => set_once(&mut extensions.link, self.read_text(&header)?)?,
                HeaderKind::PaxLocal => {
                    let records = PaxRecords::parse(&self.read_extension(&header)?)?;
                    set_once(&mut extensions.pax, records)?;
                }
                HeaderKind::PaxGlobal => drop(self.read_extension(&header)?),
                HeaderKind::Member(_) => return self.member(&header, extensions).map(Some),
            }
        }
    }

    /// The underlying reader.
    pub(crate) fn source(&self) -> &R {
        &self.source
    }

    /// The underlying reader, wherever it stands.
    pub(crate) fn into_source(self) -> R {
        self.source
    }

    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        let left = self.remaining_bytes + self.padding_bytes;
        if io::copy(&mut self.source.by_ref().take(left), &mut io::sink())? != left {
            return Err(TarError::Malformed("it ends within a member"));
        }
        (self.remaining_bytes, self.padding_bytes) = (0, 0);
        let Some(block) = self.read_block()? else { return Ok(None) };
        // One block of zeros is the end: not every writer bothers with the second.
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        Header::parse(block).map(Some)
    }

    /// One block, or `None` when nothing at all is left.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        self.source.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        block.try_into().map(Some).map_err(|_| TarError::Malformed("it ends within a header"))
    }

    /// Declares that `size_bytes` of data follow the header just read.
    fn expect_data(&mut self, size_bytes: u64) -> Result<(), TarError> {
        let padded = size_bytes.checked_next_multiple_of(BLOCK_BYTES as u64);
        let padded = padded.ok_or(TarError::Malformed("a member's size overflows"))?;
        (self.remaining_bytes, self.padding_bytes) = (size_bytes, padded - size_bytes);
        Ok(())
    }

    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size_bytes = header.size_bytes()?;
        if size_bytes > MAX_EXTENSION_BYTES {
            return Err(TarError::Malformed("an extension header of more than 1 MiB"));
        }
        self.expect_data(size_bytes)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A long name: up to its first NUL.
    fn read_text(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut bytes = self.read_extension(header)?;
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
        Ok(bytes)
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member, TarError> {
        let mut pax = extensions.pax.unwrap_or_default();
        let path = pax.path.take().or(extensions.path).unwrap_or_else(|| header.path());
        let link = pax.link.take().or(extensions.link).unwrap_or_else(|| header.link());
        let named = |problem| TarError::Member { path: lossy(&path), problem };
        if path.is_empty() || path.contains(&0) || link.contains(&0) {
            return Err(named("an empty name or one with a NUL"));
        }
        let kind = self.member_kind(header, &mut pax, &path, link)?;
        let narrow = |id: u64, problem| u32::try_from(id).map_err(|_| named(problem));
        Ok(Member {
            kind,
            mode: header.mode()?,
            uid: narrow(pax.uid.map_or_else(|| header.uid(), Ok)?, "a user id above 32 bits")?,
            gid: narrow(pax.gid.map_or_else(|| header.gid(), Ok)?, "a group id above 32 bits")?,
            modified: pax.modified.map_or_else(|| header.modified(), Ok)?,
            xattrs: pax.xattrs.into_iter().collect(),
            // A sparse file's real name is a record of its own.
            path: pax.sparse.name.unwrap_or(path),
        })
    }

    fn member_kind(
        &mut self,
        header: &Header,
        pax: &mut PaxRecords,
        path: &[u8],
        target: Vec<u8>,
    ) -> Result<MemberKind, TarError> {
        let named = |problem| TarError::Member { path: lossy(path), problem };
        let HeaderKind::Member(type_flag) = header.kind() else {
            return Err(named("an extension header in a member's place"));
        };
        if !matches!(type_flag, b'0' | 0 | b'7' | b'S') {
            // Links, devices and directories have no data, whatever their size field says.
            self.expect_data(0)?;
        }
        Ok(match type_flag {
            // Before POSIX a directory was a file whose name ends in a slash.
            b'0' | 0 if path.ends_with(b"/") => {
                self.expect_data(pax.size_bytes.map_or_else(|| header.size_bytes(), Ok)?)?;
                MemberKind::Directory
            }
            b'0' | 0 | b'7' | b'S' => return self.file(header, pax).map_err(|error| at_path(error, path)),
            b'1' => MemberKind::HardLink { target },
            b'2' => MemberKind::Symlink { target },
            b'3' => {
                MemberKind::CharacterDevice { major: header.device_major()?, minor: header.device_minor()? }
            }
            b'4' => MemberKind::BlockDevice { major: header.device_major()?, minor: header.device_minor()? },
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            _ => return Err(named("an unsupported type of member")),
        })
    }

    /// A regular file: dense, or sparse in one of the four ways that GNU tar knows.
    fn file(&mut self, header: &Header, pax: &mut PaxRecords) -> Result<MemberKind, TarError> {
        let stored_bytes = pax.size_bytes.map_or_else(|| header.size_bytes(), Ok)?;
        let (size_bytes, segments) = if header.is_old_gnu_sparse() {
            let (size_bytes, segments) = self.old_gnu_sparse(header)?;
            self.expect_data(stored_bytes)?;
            (size_bytes, segments)
        } else {
            self.expect_data(stored_bytes)?;
            match pax.sparse.real_size_bytes()? {
                Some(size_bytes) if pax.sparse.map_is_in_data() => (size_bytes, sparse::read_map(self)?),
                Some(size_bytes) => (size_bytes, std::mem::take(&mut pax.sparse.segments)),
                None => (stored_bytes, vec![Segment { offset_bytes: 0, length_bytes: stored_bytes }]),
            }
        };
        sparse::validate(&segments, size_bytes, self.remaining_bytes)?;
        Ok(MemberKind::File { size_bytes, segments })
    }

    /// The oldest sparse format: segments in the header, and in blocks that follow it.
    fn old_gnu_sparse(&mut self, header: &Header) -> Result<(u64, Vec<Segment>), TarError> {
        let mut segments = Vec::new();
        let mut more = header.sparse_segments(&mut segments)?;
        while more {
            let block = self.read_block()?.ok_or(TarError::Malformed("it ends within a sparse map"))?;
            more = sparse::parse_extension_block(&block, &mut segments)?;
        }
        Ok((header.sparse_real_size_bytes()?, segments))
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.by_ref().take(self.remaining_bytes).read(buffer)?;
        if count == 0 && self.remaining_bytes > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a member"));
        }
        self.remaining_bytes -= count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for TarStream<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.remaining_bytes == 0 {
            return Ok(&[]);
        }
        let bytes = self.source.fill_buf()?;
        let limit = usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX);
        Ok(&bytes[..bytes.len().min(limit)])
    }

    fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.remaining_bytes = self.remaining_bytes.saturating_sub(count as u64);
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), TarError> {
    if slot.replace(value).is_some() {
        return Err(TarError::Malformed("two extension headers of one kind for one member"));
    }
    Ok(())
}

/// Names for messages.
pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).collect()
}

fn at_path(error: TarError, path: &[u8]) -> TarError {
    match error {
        TarError::Malformed(problem) => TarError::Member { path: lossy(path), problem },
        other => other,
    }
}

#[cfg(test)]
mod tests;
