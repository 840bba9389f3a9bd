//! The headers of an ELF kernel, checked: what of the file goes where, and where it is entered.
//!
//! Pure: bytes in, a list of segments out. Whether there is RAM where they go is the caller's to check. Section
//! names are of the System V ABI, chapters 4 and 5, and its supplement for x86-64.

use crate::layout::HIGH_RAM_START;

/// File header and program headers must lie in this many bytes at the file's beginning, where linkers put them.
pub(super) const HEAD_BYTES: usize = 4096;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64_BITS: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const EXECUTABLE: u16 = 2;
const X86_64: u16 = 62;
/// A program header that says what to load (PT_LOAD).
const LOAD: u32 = 1;

/// Why a file is no kernel.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElfError {
    #[error("it does not begin like an ELF file")]
    NoElf,
    #[error("it is built for another processor or as something else than an executable")]
    Foreign,
    #[error("its program headers do not lie in its first {HEAD_BYTES} bytes")]
    Headers,
    #[error("its segment at {address:#x} {problem}")]
    Segment { address: u64, problem: &'static str },
    #[error("its entry {entry:#x} lies in none of its segments")]
    Entry { entry: u64 },
}

/// What a kernel's headers say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elf {
    /// Lies in one of the segments.
    pub(super) entry: u64,
    /// By address; they do not overlap.
    pub(super) segments: Vec<Segment>,
}

/// A piece of the file, and the memory it fills: zeros behind the file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) file_offset: u64,
    /// At most `memory_bytes`.
    pub(super) file_bytes: u64,
    /// Physical; not below [`HIGH_RAM_START`], where the machine's own tables are.
    pub(super) address: u64,
    /// Not zero; `address + memory_bytes` does not overflow.
    pub(super) memory_bytes: u64,
}

impl Segment {
    pub(super) fn end(&self) -> u64 {
        self.address + self.memory_bytes
    }
}

impl Elf {
    /// Reads the headers out of a file's first bytes, [`HEAD_BYTES`] or as many as the file has, which are
    /// `file_bytes` in all.
    ///
    /// # Errors
    /// Says what is not as it must be; of several segments, for the first.
    pub(super) fn parse(head: &[u8], file_bytes: u64) -> Result<Self, ElfError> {
        let header = head.first_chunk::<HEADER_BYTES>().ok_or(ElfError::NoElf)?;
        if !header.starts_with(MAGIC) {
            return Err(ElfError::NoElf);
        }
        let kind = (header[4], header[5], u16_at(header, 16), u16_at(header, 18));
        if kind != (CLASS_64_BITS, LITTLE_ENDIAN, EXECUTABLE, X86_64) {
            return Err(ElfError::Foreign);
        }
        let mut segments = Vec::new();
        for header in program_headers(header, head)?.chunks_exact(PROGRAM_HEADER_BYTES) {
            segments.extend(segment(header, file_bytes)?);
        }
        segments.sort_unstable_by_key(|segment| segment.address);
        check_overlaps(&segments)?;
        let entry = u64_at(header, 24);
        let is_inside = |segment: &Segment| (segment.address..segment.end()).contains(&entry);
        if segments.iter().any(is_inside) {
            Ok(Self { entry, segments })
        } else {
            Err(ElfError::Entry { entry })
        }
    }

    /// The first address behind everything that is loaded.
    pub(super) fn end(&self) -> u64 {
        self.segments.last().map_or(HIGH_RAM_START, Segment::end)
    }
}

fn program_headers<'h>(header: &[u8], head: &'h [u8]) -> Result<&'h [u8], ElfError> {
    let start = usize::try_from(u64_at(header, 32)).map_err(|_| ElfError::Headers)?;
    let (entry_bytes, count) = (u16_at(header, 54), u16_at(header, 56));
    if usize::from(entry_bytes) != PROGRAM_HEADER_BYTES {
        return Err(ElfError::Headers);
    }
    let bytes = usize::from(count) * PROGRAM_HEADER_BYTES;
    let end = start.checked_add(bytes).ok_or(ElfError::Headers)?;
    head.get(start..end).ok_or(ElfError::Headers)
}

/// What one program header asks for; `None` if it is nothing to load.
fn segment(header: &[u8], file_bytes: u64) -> Result<Option<Segment>, ElfError> {
    let segment = Segment {
        file_offset: u64_at(header, 8),
        address: u64_at(header, 24),
        file_bytes: u64_at(header, 32),
        memory_bytes: u64_at(header, 40),
    };
    if u32_at(header, 0) != LOAD || segment.memory_bytes == 0 {
        return Ok(None);
    }
    let refused = |problem| Err(ElfError::Segment { address: segment.address, problem });
    if segment.file_bytes > segment.memory_bytes {
        return refused("has more bytes in the file than in memory");
    }
    if segment.file_offset.checked_add(segment.file_bytes).is_none_or(|end| end > file_bytes) {
        return refused("ends behind the file's end: the file is cut off");
    }
    if segment.address < HIGH_RAM_START {
        return refused("overlaps the machine's own tables below 1 MiB");
    }
    if segment.address.checked_add(segment.memory_bytes).is_none() {
        return refused("ends behind the last address");
    }
    Ok(Some(segment))
}

/// `segments` are sorted by address.
fn check_overlaps(segments: &[Segment]) -> Result<(), ElfError> {
    match segments.windows(2).find(|pair| pair[0].end() > pair[1].address) {
        Some(pair) => {
            Err(ElfError::Segment { address: pair[1].address, problem: "overlaps another segment" })
        }
        None => Ok(()),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
