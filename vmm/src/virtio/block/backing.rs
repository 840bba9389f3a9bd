//! What lies behind a disk: the extents of several files, bound at boot or later, all at once or one part of the disk
//! after the other.
//!
//! Knows bytes and files, no queues and no requests. The disk's device thread reads and writes while the control
//! thread binds, counts and asks; both hold the same [`Disk`].

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;

use super::failures::Failures;
use crate::config::{DiskAccess, DiskConfig, Extent, InvalidConfig, validate_binding};
use crate::console_log::ConsoleLog;
use crate::control::DiskCounters;
use crate::host_files::{Access, HOST_FILES};
use crate::memory::{GuestMemoryMmap, VolatileSlice};
use crate::virtio::chain::Segments;
use crate::virtio::guest_io;

/// Zeros for the parts of a disk that no file backs.
static ZEROS: [u8; 4096] = [0; 4096];

/// How long requests that are under way may keep the files of a part that is to be unbound.
const UNBIND_DEADLINE: Duration = Duration::from_secs(20);
const UNBIND_PAUSE: Duration = Duration::from_millis(1);

/// Why files could not be bound to a disk, or not be taken from it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("the disk is bound already")]
    Bound,
    #[error("the guest's requests did not let go of the files within {} s", UNBIND_DEADLINE.as_secs())]
    Busy,
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    #[error("{path}")]
    File { path: String, source: io::Error },
}

/// Why a request on a disk failed; the guest is told the difference.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("beyond the disk's end or its files, or not writable")]
    Refused,
    #[error("the files cannot do this")]
    Unsupported,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One disk, shared by its device and the control thread.
#[derive(Debug)]
pub(crate) struct Disk {
    capacity_bytes: u64,
    access: DiskAccess,
    /// By their places on the disk; none overlaps another.
    extents: RwLock<Vec<OpenExtent>>,
    statistics: Statistics,
    failures: Failures,
}

/// An [`Extent`] with its file open and its place on the disk known.
#[derive(Debug)]
struct OpenExtent {
    start: u64,
    /// Where the first of those begins that were bound together with it.
    bound_at: u64,
    access: DiskAccess,
    length: u64,
    file: Arc<File>,
    file_offset: u64,
    /// It had a name when it was opened; what never had one cannot lose it.
    was_named: bool,
}

/// A part of a request that one extent, or none, answers.
struct Piece<'e> {
    extent: Option<&'e OpenExtent>,
    start: u64,
    length: u64,
}

#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub(super) reads: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) discarded_bytes: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Disk {
    /// # Errors
    /// As [`Self::bind`].
    pub(crate) fn open(config: &DiskConfig) -> Result<Self, BindError> {
        let extents = open_extents(0, &config.extents, config.access)?;
        Ok(Self {
            capacity_bytes: config.capacity_bytes,
            access: config.access,
            extents: RwLock::new(extents),
            statistics: Statistics::default(),
            failures: Failures::default(),
        })
    }

    /// Gives a part of the disk that is not bound its files, from `start` on; requests that begin after this returns see
    /// them. Without `access` they may be used as the disk may.
    ///
    /// # Errors
    /// Something is bound there already, the extents do not fit the disk, or a file does not open or is too short.
    pub(crate) fn bind(
        &self,
        start: u64,
        access: Option<DiskAccess>,
        extents: &[Extent],
    ) -> Result<(), BindError> {
        validate_binding(start, extents, self.capacity_bytes)?;
        let access = if self.is_read_only() { DiskAccess::ReadOnly } else { access.unwrap_or(self.access) };
        let opened = open_extents(start, extents, access);
        // What was handed over for it has a descriptor of its own now, or never will.
        extents.iter().for_each(|extent| drop(HOST_FILES.take(&extent.path)));
        let opened = opened?;
        let Some(end) = opened.last().map(OpenExtent::end) else { return Ok(()) };
        let mut bound = self.extents.write().unwrap_or_else(PoisonError::into_inner);
        let place = bound.partition_point(|extent| extent.end() <= start);
        if bound.get(place).is_some_and(|next| next.start < end) {
            return Err(BindError::Bound);
        }
        bound.splice(place..place, opened);
        Ok(())
    }

    /// Takes away what was bound from `start` on. When this returns nothing the guest asks for reaches those files any
    /// more, nor is a request on them under way. Where nothing is bound there is nothing to do.
    ///
    /// # Errors
    /// Requests do not end. Everything is bound as before then.
    pub(crate) fn unbind(&self, start: u64) -> Result<(), BindError> {
        let deadline = Instant::now() + UNBIND_DEADLINE;
        let mut bound = self.extents.write().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = bound.extract_if(.., |extent| extent.bound_at == start).collect();
        drop(bound);
        // A request under way has a handle of its own.
        while taken.iter().any(|extent| Arc::strong_count(&extent.file) > 1) {
            if Instant::now() > deadline {
                let mut bound = self.extents.write().unwrap_or_else(PoisonError::into_inner);
                bound.extend(taken);
                bound.sort_unstable_by_key(|extent| extent.start);
                return Err(BindError::Busy);
            }
            std::thread::sleep(UNBIND_PAUSE);
        }
        Ok(())
    }

    fn bound(&self) -> RwLockReadGuard<'_, Vec<OpenExtent>> {
        self.extents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counters(&self) -> DiskCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskCounters {
            reads: load(&self.statistics.reads),
            read_bytes: load(&self.statistics.read_bytes),
            writes: load(&self.statistics.writes),
            written_bytes: load(&self.statistics.written_bytes),
            flushes: load(&self.statistics.flushes),
            discarded_bytes: load(&self.statistics.discarded_bytes),
            errors: load(&self.statistics.errors),
        }
    }

    /// From now on the console log tells of this disk's failures, as those of the machine's `index`-th.
    pub(crate) fn tell_failures(&self, log: Arc<ConsoleLog>, index: usize) {
        self.failures.tell(log, index);
    }

    pub(super) fn failures(&self) -> &Failures {
        &self.failures
    }

    pub(super) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    pub(super) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.access == DiskAccess::ReadOnly
    }

    /// Fills `into` with the disk's bytes from `start` on.
    pub(super) fn read(
        &self,
        start: u64,
        into: &Segments,
        memory: &GuestMemoryMmap,
    ) -> Result<(), DiskError> {
        self.each_piece(start, into, memory, |piece, slices| match piece.extent {
            Some(extent) => extent.transfer(piece.start, slices, guest_io::read_at),
            None => {
                slices.iter().for_each(fill_with_zeros);
                Ok(())
            }
        })
    }

    /// Writes `from` to the disk from `start` on.
    pub(super) fn write(
        &self,
        start: u64,
        from: &Segments,
        memory: &GuestMemoryMmap,
    ) -> Result<(), DiskError> {
        self.each_piece(start, from, memory, |piece, slices| match piece.extent {
            Some(extent) if extent.is_writable() => {
                extent.check_length()?;
                extent.transfer(piece.start, slices, guest_io::write_at)
            }
            _ => Err(DiskError::Refused),
        })
    }

    /// Frees a range's blocks in the files; it reads as zeros afterwards.
    pub(super) fn punch_hole(&self, start: u64, length: u64) -> Result<(), DiskError> {
        self.each_range(start, length, FallocateFlags::PUNCH_HOLE)
    }

    /// Makes a range read as zeros and keeps its blocks.
    pub(super) fn zero(&self, start: u64, length: u64) -> Result<(), DiskError> {
        self.each_range(start, length, FallocateFlags::ZERO_RANGE)
    }

    /// The file in which a range lies as a whole, and its offset there; `None` if it does not.
    pub(super) fn place(&self, start: u64, length: usize) -> Option<(Arc<File>, u64)> {
        let extents = self.bound();
        let extent = Self::extent_of(&extents, start, length)?;
        Some((extent.file.clone(), extent.file_offset + (start - extent.start)))
    }

    /// The same for a write; `None` also if it may not be done, for a reason that [`Self::write`] tells.
    pub(super) fn place_for_writing(&self, start: u64, length: usize) -> Option<(Arc<File>, u64)> {
        let extents = self.bound();
        let extent = Self::extent_of(&extents, start, length)?;
        let may_be_written = extent.is_writable() && extent.check_length().is_ok();
        may_be_written.then(|| (extent.file.clone(), extent.file_offset + (start - extent.start)))
    }

    fn extent_of(extents: &[OpenExtent], start: u64, length: usize) -> Option<&OpenExtent> {
        let end = start.checked_add(length as u64)?;
        extents
            .get(extents.partition_point(|extent| extent.end() <= start))
            .filter(|extent| extent.start <= start && end <= extent.end())
    }

    /// The file that a flush brings to stable storage, if it is one.
    pub(super) fn place_to_flush(&self) -> Option<Arc<File>> {
        let extents = self.bound();
        let mut writable = extents.iter().filter(|extent| extent.is_writable());
        let only = writable.next()?;
        writable.next().is_none().then(|| only.file.clone())
    }

    /// What was flushed can be found again.
    pub(super) fn check_flushed(&self) -> Result<(), DiskError> {
        let extents = self.bound();
        let mut writable = extents.iter().filter(|extent| extent.is_writable());
        Ok(writable.try_for_each(OpenExtent::check_name)?)
    }

    /// Brings everything written before to stable storage.
    pub(super) fn flush(&self) -> Result<(), DiskError> {
        let extents = self.bound();
        let mut writable = extents.iter().filter(|extent| extent.is_writable());
        Ok(writable.try_for_each(OpenExtent::flush)?)
    }

    fn each_piece(
        &self,
        start: u64,
        segments: &Segments,
        memory: &GuestMemoryMmap,
        mut transfer: impl FnMut(&Piece<'_>, &[VolatileSlice<'_>]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let extents = self.bound();
        let mut slices = Vec::new();
        let mut done = 0;
        for piece in self.pieces(&extents, start, segments.len() as u64)? {
            let length = usize::try_from(piece.length).map_err(|_| DiskError::Refused)?;
            slices.clear();
            segments.range(done, length).slices(memory, &mut slices).map_err(|_| DiskError::Refused)?;
            transfer(&piece, &slices)?;
            done += length;
        }
        Ok(())
    }

    fn each_range(&self, start: u64, length: u64, mode: FallocateFlags) -> Result<(), DiskError> {
        if self.is_read_only() {
            return Err(DiskError::Refused);
        }
        let extents = self.bound();
        for piece in self.pieces(&extents, start, length)? {
            let Some(extent) = piece.extent else { continue };
            if !extent.is_writable() {
                return Err(DiskError::Refused);
            }
            extent.check_length()?;
            let offset = extent.file_offset + (piece.start - extent.start);
            rustix::fs::fallocate(&extent.file, mode | FallocateFlags::KEEP_SIZE, offset, piece.length)
                .map_err(|e| match e {
                    rustix::io::Errno::OPNOTSUPP => DiskError::Unsupported,
                    other => DiskError::Io(other.into()),
                })?;
        }
        Ok(())
    }

    /// Splits a range of the disk at the borders of extents, and of what lies between them.
    fn pieces<'e>(
        &self,
        extents: &'e [OpenExtent],
        start: u64,
        length: u64,
    ) -> Result<impl Iterator<Item = Piece<'e>>, DiskError> {
        let end =
            start.checked_add(length).filter(|end| *end <= self.capacity_bytes).ok_or(DiskError::Refused)?;
        let mut index = extents.partition_point(|extent| extent.end() <= start);
        let mut position = start;
        Ok(std::iter::from_fn(move || {
            if position == end {
                return None;
            }
            let next = extents.get(index);
            let extent = next.filter(|extent| extent.start <= position);
            let stop = match (extent, next) {
                (Some(extent), _) => extent.end().min(end),
                (None, Some(next)) => next.start.min(end),
                (None, None) => end,
            };
            let piece = Piece { extent, start: position, length: stop - position };
            index += usize::from(extent.is_some());
            position = stop;
            Some(piece)
        }))
    }
}

impl OpenExtent {
    fn end(&self) -> u64 {
        self.start + self.length
    }

    fn is_writable(&self) -> bool {
        self.access == DiskAccess::ReadWrite
    }

    /// A file that was cut short under the running guest has lost some of its data; writing behind the cut would
    /// make it long enough again, with zeros where the loss could no longer be seen.
    fn check_length(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length < self.file_offset + self.length {
            return Err(io::Error::other(format!("the disk's file was cut to {length} bytes")));
        }
        Ok(())
    }

    /// Brings what was written to the storage, under a name by which it can be found again.
    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.check_name()
    }

    /// A file without a name is gone with this process.
    fn check_name(&self) -> io::Result<()> {
        if self.was_named && self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::other("the disk's file was deleted"));
        }
        Ok(())
    }

    /// Moves all of `slices` from or to the file, for the part of the extent that begins at `start` on the disk.
    fn transfer(
        &self,
        start: u64,
        slices: &[VolatileSlice<'_>],
        system_call: fn(std::os::fd::BorrowedFd<'_>, u64, &[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> Result<(), DiskError> {
        let mut rest = slices.to_vec();
        let mut offset = self.file_offset + (start - self.start);
        while !rest.is_empty() {
            let moved = match system_call(self.file.as_fd(), offset, &rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(moved) => moved,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            offset += moved as u64;
            advance(&mut rest, moved);
        }
        Ok(())
    }
}

/// Drops the first `bytes` of a list of slices.
fn advance(slices: &mut Vec<VolatileSlice<'_>>, mut bytes: usize) {
    let whole = slices.iter().take_while(|slice| {
        let covered = slice.len() <= bytes;
        if covered {
            bytes -= slice.len();
        }
        covered
    });
    let whole = whole.count();
    slices.drain(..whole);
    if let Some(first) = slices.first_mut() {
        *first = first.offset(bytes).expect("fewer bytes than the slice has are left");
    }
}

fn fill_with_zeros(slice: &VolatileSlice<'_>) {
    let mut filled = 0;
    while filled < slice.len() {
        let rest = slice.offset(filled).expect("an offset inside the slice");
        let part = ZEROS.len().min(rest.len());
        rest.copy_from(&ZEROS[..part]);
        filled += part;
    }
}

fn open_extents(bound_at: u64, extents: &[Extent], access: DiskAccess) -> Result<Vec<OpenExtent>, BindError> {
    let mut start = bound_at;
    let mut opened = Vec::with_capacity(extents.len());
    for extent in extents {
        let failed = |source| BindError::File { path: extent.path.display().to_string(), source };
        let file = Arc::new(open_file(extent, access).map_err(failed)?);
        let was_named = file.metadata().map_err(failed)?.nlink() > 0;
        let length = extent.length_bytes;
        let file_offset = extent.offset_bytes;
        opened.push(OpenExtent { start, bound_at, access, length, file, file_offset, was_named });
        start += length;
    }
    Ok(opened)
}

fn open_file(extent: &Extent, access: DiskAccess) -> io::Result<File> {
    let access = match access {
        DiskAccess::ReadOnly => Access::Read,
        DiskAccess::ReadWrite => Access::ReadWrite,
    };
    let file = HOST_FILES.open(&extent.path, access)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() < extent.offset_bytes + extent.length_bytes {
        return Err(io::Error::other("shorter than the extent"));
    }
    Ok(file)
}
