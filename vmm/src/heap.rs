//! One heap for all threads of the process.
#![expect(unsafe_code, reason = "the C library's allocator is told by an unsafe call")]

/// Has the allocator make no heaps beside the first, where it is the GNU C library's. It would make one for each thread,
/// with four system calls, and ask a file under `/sys` how many there may be, which in the jail is not there. Threads
/// have caches of their own, and what allocates much here allocates seldom.
pub(crate) fn share() {
    // SAFETY: sets a number inside the allocator, before there is a second thread. It reports 0 if it does not know
    // the parameter, and then there is nothing to share.
    let _known = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
