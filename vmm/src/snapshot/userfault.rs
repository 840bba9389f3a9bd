//! The kernel's userfaultfd: who touches a page that is not there waits until we have put one there.
//!
//! Only what is needed to fill anonymous memory, page by page or a huge page at a time
//! (Documentation/admin-guide/mm/userfaultfd.rst). Knows addresses, not what they are for.

#![expect(unsafe_code, reason = "ioctls whose arguments are addresses")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::mm::{UserfaultfdFlags, userfaultfd};

/// The requests, as `_IOWR(0xaa, number, structure)` and `_IOR` of linux/userfaultfd.h.
const API: libc::c_ulong = request(READ | WRITE, 0x3f, size_of::<[u64; 3]>());
const REGISTER: libc::c_ulong = request(READ | WRITE, 0x00, size_of::<[u64; 4]>());
const WAKE: libc::c_ulong = request(READ, 0x02, size_of::<[u64; 2]>());
const COPY: libc::c_ulong = request(READ | WRITE, 0x03, size_of::<[u64; 5]>());
const MOVE: libc::c_ulong = request(READ | WRITE, 0x05, size_of::<[u64; 5]>());
const POISON: libc::c_ulong = request(READ | WRITE, 0x08, size_of::<[u64; 4]>());
const WRITE: u32 = 1;
const READ: u32 = 2;

const API_VERSION: u64 = 0xaa;
const FEATURE_POISON: u64 = 1 << 14;
const FEATURE_MOVE: u64 = 1 << 16;
const MODE_MISSING: u64 = 1 << 0;
const EVENT_PAGE_FAULT: u8 = 0x12;
const MESSAGE_BYTES: usize = 32;

/// `_IOC` of the kernel's headers.
const fn request(direction: u32, number: u32, bytes: usize) -> libc::c_ulong {
    (direction as libc::c_ulong) << 30 | (bytes as libc::c_ulong) << 16 | 0xaa << 8 | number as libc::c_ulong
}

#[derive(Debug)]
pub(crate) struct UserFaults(File);

impl UserFaults {
    /// # Errors
    /// The kernel has no such thing, none that moves pages (before Linux 6.8), or denies it to this process.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        // SAFETY: the descriptor does nothing to any memory before a range is registered.
        let faults = Self(File::from(unsafe { userfaultfd(flags) }?));
        // Asking for a feature that is missing is an error.
        faults.call(API, &mut [API_VERSION, FEATURE_MOVE | FEATURE_POISON, 0])?;
        Ok(faults)
    }

    /// Whoever touches a missing page of this anonymous memory waits from now on.
    pub(super) fn register(&self, start: usize, length: usize) -> io::Result<()> {
        self.call(REGISTER, &mut [start as u64, length as u64, MODE_MISSING, 0])
    }

    /// Lets those go on who wait for a page of this range.
    pub(super) fn wake(&self, start: usize, length: usize) -> io::Result<()> {
        self.call(WAKE, &mut [start as u64, length as u64])
    }

    /// Moves pages from `from`, which reads as zeros afterwards, to where all of them are missing, and wakes who waits. A
    /// huge page stays one.
    ///
    /// # Safety
    /// `length` bytes at `from` belong to the caller, and nobody holds a reference into them.
    pub(super) unsafe fn move_pages(&self, to: usize, from: usize, length: usize) -> io::Result<()> {
        self.call(MOVE, &mut [to as u64, from as u64, length as u64, 0, 0])
    }

    /// Copies `page` to where one is missing, and wakes who waits for it.
    pub(super) fn copy_page(&self, to: usize, page: &[u8]) -> io::Result<()> {
        self.call(COPY, &mut [to as u64, page.as_ptr().addr() as u64, page.len() as u64, 0, 0])
    }

    /// Whoever touches these missing pages, or waits for them, fails as if the memory were broken.
    pub(super) fn poison(&self, start: usize, length: usize) -> io::Result<()> {
        self.call(POISON, &mut [start as u64, length as u64, 0, 0])
    }

    /// The address that somebody waits for, if anybody does.
    pub(super) fn next_address(&self) -> io::Result<Option<usize>> {
        let mut message = [0; MESSAGE_BYTES];
        match (&self.0).read(&mut message) {
            Ok(MESSAGE_BYTES) if message[0] == EVENT_PAGE_FAULT => {
                let address = u64::from_ne_bytes(message[16..24].try_into().expect("eight bytes"));
                Ok(usize::try_from(address).ok())
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn call<const N: usize>(&self, request: libc::c_ulong, argument: &mut [u64; N]) -> io::Result<()> {
        loop {
            // SAFETY: every request's structure is N words, as its number says, and outlives the call. The kernel checks
            // the addresses in it against mappings of this process; callers fill memory that is theirs.
            match unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument.as_mut_ptr()) } {
                0 => return Ok(()),
                _ => match io::Error::last_os_error() {
                    // Somebody changes the address space at the same time.
                    error if error.raw_os_error() == Some(libc::EAGAIN) => {}
                    error => return Err(error),
                },
            }
        }
    }
}

impl AsFd for UserFaults {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
