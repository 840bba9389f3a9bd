//! Vectored system calls straight into and out of guest memory: one copy, made by the kernel.
//!
//! Every call may do less than asked, like the system call it is; callers loop or keep the rest.
#![expect(unsafe_code, reason = "the kernel is given pointers into guest memory")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::memory::VolatileSlice;

/// What the kernel accepts in one call (IOV_MAX); what is behind them is left out.
pub(crate) const MAX_SLICES: usize = 1024;

/// The kernel's form of a list of guest memory slices; the slices outlive it, see the callers' `slices`.
fn io_vectors(slices: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    let vector = |slice: &VolatileSlice<'_>| libc::iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    };
    slices.iter().take(MAX_SLICES).map(vector).collect()
}

/// Room for the kernel's form of a list of buffers, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Vectors(Vec<libc::iovec>);

// SAFETY: the pointers in it are never used again after the `BufferList` that put them there is gone, and that one is
// not `Send`.
unsafe impl Send for Vectors {}

impl Vectors {
    /// An empty list.
    pub(crate) fn begin<'m>(&mut self) -> BufferList<'_, 'm> {
        self.0.clear();
        BufferList { vectors: &mut self.0, buffers: PhantomData }
    }
}

/// Buffers for one system call: pieces of guest memory, and our own before or behind them.
#[derive(Debug)]
pub(crate) struct BufferList<'v, 'm> {
    vectors: &'v mut Vec<libc::iovec>,
    buffers: PhantomData<&'m mut [u8]>,
}

impl<'m> BufferList<'_, 'm> {
    pub(crate) fn push(&mut self, slice: &VolatileSlice<'m>) {
        let iov_base = slice.ptr_guard_mut().as_ptr().cast();
        self.vectors.push(libc::iovec { iov_base, iov_len: slice.len() });
    }

    pub(crate) fn push_own(&mut self, bytes: &'m mut [u8]) {
        self.vectors.push(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() });
    }

    pub(crate) fn len(&self) -> usize {
        self.vectors.len()
    }

    /// readv(2).
    pub(crate) fn read(self, file: BorrowedFd<'_>) -> io::Result<usize> {
        let buffers = i32::try_from(self.vectors.len()).map_err(io::Error::other)?;
        // SAFETY: each vector covers a slice of guest memory or a buffer that is borrowed for 'm, which has not ended.
        // The guest may change its memory at the same time; it is only accessed through volatile or kernel accesses.
        count(unsafe { libc::readv(file.as_raw_fd(), self.vectors.as_ptr(), buffers) })
    }

    /// writev(2).
    pub(crate) fn write(self, file: BorrowedFd<'_>) -> io::Result<usize> {
        let buffers = i32::try_from(self.vectors.len()).map_err(io::Error::other)?;
        // SAFETY: as in `read`; the kernel only reads the memory.
        count(unsafe { libc::writev(file.as_raw_fd(), self.vectors.as_ptr(), buffers) })
    }
}

fn count(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn file_offset(offset_bytes: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset_bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn vector_count(vectors: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(vectors.len()).expect("at most MAX_SLICES")
}

/// preadv(2).
pub(crate) fn read_at(
    file: BorrowedFd<'_>,
    offset_bytes: u64,
    slices: &[VolatileSlice<'_>],
) -> io::Result<usize> {
    let vectors = io_vectors(slices);
    let offset = file_offset(offset_bytes)?;
    // SAFETY: each vector covers a slice of mapped guest memory that `slices` keeps borrowed during the call. The
    // guest may change that memory at the same time; it is only accessed through volatile or kernel accesses.
    count(unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), vector_count(&vectors), offset) })
}

/// pwritev(2).
pub(crate) fn write_at(
    file: BorrowedFd<'_>,
    offset_bytes: u64,
    slices: &[VolatileSlice<'_>],
) -> io::Result<usize> {
    let vectors = io_vectors(slices);
    let offset = file_offset(offset_bytes)?;
    // SAFETY: as in `read_at`; the kernel only reads the memory.
    count(unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), vector_count(&vectors), offset) })
}

fn message(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    message
}

/// recvmsg(2) that does not wait: `WouldBlock` when the socket has nothing.
pub(crate) fn receive(socket: BorrowedFd<'_>, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut vectors = io_vectors(slices);
    let mut message = message(&mut vectors);
    // SAFETY: as in `read_at`; `message` points only at `vectors`, which lives until the call returns.
    count(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) })
}

/// sendmsg(2) that neither waits nor raises SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut vectors = io_vectors(slices);
    let message = message(&mut vectors);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: as in `receive`; the kernel only reads the memory.
    count(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}
