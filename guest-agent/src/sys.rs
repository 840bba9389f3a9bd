//! The raw system calls that no safe wrapper offers, and the only unsafe code of the agent.
//!
//! Decides nothing: each function is one call (or one call and what must follow it at once), with its argument for
//! soundness beside it.
#![expect(
    unsafe_code,
    reason = "clone3, ioctls, inherited descriptors and real-time signals have no safe wrapper"
)]

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::fcntl_dupfd_cloexec;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Descriptors handed to a new program become 0, 1, 2 … in order; copies of them are made from here on upwards first,
/// so that moving one into place never overwrites another.
const MAX_HANDED_DESCRIPTORS: RawFd = 16;

/// The status that a new process ends with when it could not even execute its program.
const EXIT_NOT_EXECUTED: libc::c_int = 127;

/// `linux/sched.h`; the libc crate's constant of this name is an int and has lost the bit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_PIDFD: u64 = 0x1000;

/// `linux/mount.h`
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// `_IO(0x12, 97)` of `linux/fs.h`.
const BLKFLSBUF: libc::Ioctl = 0x1261;
/// `linux/blkpg.h`.
const BLKPG: u64 = 0x1269;
const BLKPG_ADD_PARTITION: i32 = 1;
const BLKPG_DEL_PARTITION: i32 = 2;
/// `_IOW('R', 3, int[2])` of `linux/random.h`.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
/// `_IO('R', 7)` of `linux/random.h`.
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;

/// `asm-generic/socket.h`
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The bytes of one call to [`credit_entropy`].
pub(crate) const MAX_ENTROPY_BYTES: usize = 512;

/// `struct clone_args` of `linux/sched.h`, its size as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A program to start in a process of its own.
pub(crate) struct Spawn<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) argv0: &'a CStr,
    /// `CLONE_NEW…` flags.
    pub(crate) namespaces: u64,
    /// The directory of the cgroup that the process is born into.
    pub(crate) cgroup: BorrowedFd<'a>,
    /// Become the new program's 0, 1, 2 …; it inherits nothing else.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    /// The process waits for a byte from here, and becomes its user namespace's root, before it executes the program.
    pub(crate) held_by: Option<BorrowedFd<'a>>,
}

/// A process of ours that nobody has reaped yet.
pub(crate) struct Child {
    /// In the caller's PID namespace.
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Killed { signal: i32 },
}

/// Starts a program, with an empty environment.
///
/// # Errors
/// What clone3 or the copying of descriptors returned. A failure to execute shows as exit status 127.
pub(crate) fn spawn(spawn: &Spawn<'_>) -> io::Result<Child> {
    let copies = spawn.descriptors.iter().map(|fd| fcntl_dupfd_cloexec(fd, MAX_HANDED_DESCRIPTORS));
    let copies = copies.collect::<Result<Vec<OwnedFd>, _>>()?;
    let sources: Vec<RawFd> = copies.iter().map(AsRawFd::as_raw_fd).collect();
    let arguments = [spawn.argv0.as_ptr(), ptr::null()];
    let held_by = spawn.held_by.map(|held_by| held_by.as_raw_fd());
    let mut pidfd: RawFd = -1;
    let clone = CloneArguments {
        flags: spawn.namespaces | CLONE_PIDFD | CLONE_INTO_CGROUP,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup: u64::try_from(spawn.cgroup.as_raw_fd()).expect("an open descriptor is not negative"),
        ..CloneArguments::default()
    };
    // SAFETY: `clone` and the pidfd it points to live across the call. Without CLONE_VM the child works on a copy of
    // this address space; it runs `execute` only, which allocates nothing and takes no lock.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const clone, size_of::<CloneArguments>()) };
    if pid == 0 {
        if let Some(held_by) = held_by {
            become_root_of_namespace(held_by);
        }
        execute(&sources, spawn.program, &arguments);
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so it stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: i32::try_from(pid).expect("the kernel's pids are ints"), pidfd })
}

/// The child's side of a [`spawn`] into a user namespace: its users are nobody until the parent has mapped them, and a
/// program that is executed by nobody has no privileges.
fn become_root_of_namespace(held_by: RawFd) {
    let mut byte = 0_u8;
    // SAFETY: plain system calls between fork and exec; the byte is live and writable. Raw calls, since the C library's
    // would look for other threads.
    unsafe {
        let go_on = libc::syscall(libc::SYS_read, held_by, &raw mut byte, 1) == 1
            && libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) == 0
            && libc::syscall(libc::SYS_setresgid, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_setresuid, 0, 0, 0) == 0;
        if !go_on {
            libc::_exit(EXIT_NOT_EXECUTED);
        }
    }
}

/// The child's side of [`spawn`].
fn execute(sources: &[RawFd], program: &CStr, arguments: &[*const c_char; 2]) -> ! {
    let environment: [*const c_char; 1] = [ptr::null()];
    // SAFETY: only plain system calls, which are legal between fork and exec even if the parent has threads. The
    // strings and the null-terminated arrays outlive execve; no other code of this process owns descriptors any more.
    unsafe {
        for (target, source) in (0..).zip(sources) {
            if libc::syscall(libc::SYS_dup3, *source, target, 0) < 0 {
                libc::_exit(EXIT_NOT_EXECUTED);
            }
        }
        libc::syscall(libc::SYS_close_range, sources.len(), u32::MAX, 0);
        libc::syscall(libc::SYS_execve, program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        libc::_exit(EXIT_NOT_EXECUTED)
    }
}

/// A user namespace of which only the maps matter, in which nothing runs.
///
/// # Errors
/// What clone3 or the writing of the maps returned.
pub(crate) fn user_namespace(users: &str, groups: &str) -> io::Result<OwnedFd> {
    let mut pidfd: RawFd = -1;
    let clone = CloneArguments {
        flags: u64::from(libc::CLONE_NEWUSER.unsigned_abs()) | CLONE_PIDFD,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArguments::default()
    };
    // SAFETY: as in `spawn`; the child makes one system call after another and touches no memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const clone, size_of::<CloneArguments>()) };
    if pid == 0 {
        loop {
            // SAFETY: no memory is passed. The child is ended by a signal that cannot be caught.
            unsafe { libc::syscall(libc::SYS_pause) };
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so it stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    let made = std::fs::write(process.join("uid_map"), users)
        .and_then(|()| std::fs::write(process.join("gid_map"), groups))
        .and_then(|()| std::fs::File::open(process.join("ns/user")));
    signal(&pidfd, libc::SIGKILL)?;
    made.map(OwnedFd::from)
}

/// Gives the files of a mount that is attached nowhere the owners that a user namespace maps theirs to.
///
/// # Errors
/// What mount_setattr(2) returned: EINVAL for a file system that cannot do this.
pub(crate) fn map_owners_of_mount(mount: impl AsFd, namespace: impl AsFd) -> io::Result<()> {
    /// `struct mount_attr` of `linux/mount.h`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let attributes = Attributes {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: u64::try_from(namespace.as_fd().as_raw_fd())
            .expect("an open descriptor is not negative"),
    };
    // SAFETY: the kernel reads an empty path and the plain struct, both of which live across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Splits a single-threaded process in two. The child gets `None`, the parent the child's pid.
///
/// # Errors
/// What fork returned; also if the process has threads, where Rust code in the child would be unsound.
pub(crate) fn fork_single_threaded() -> io::Result<Option<i32>> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other("a process with threads cannot be forked"));
    }
    // SAFETY: this process has one thread, just counted, so the child's copy of memory holds no lock of another.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes over a descriptor that this program was started with.
///
/// # Errors
/// If there is no such descriptor.
pub(crate) fn take_inherited(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on any integer is harmless; the descriptor becomes close-on-exec or the call fails.
    if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, as fcntl has shown, and only this call claims it: it is called once per number, at the
    // start of the stage, for descriptors above the standard ones.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Reaps one child that has ended, whichever it is.
pub(crate) fn reap_any() -> Option<(i32, End)> {
    // SAFETY: an all-zero siginfo is a valid value of this plain data.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is live and writable for the call.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG) };
    // SAFETY: waitid filled the fields of a child's end, or left them zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if result != 0 || pid == 0 {
        return None;
    }
    let end =
        if info.si_code == libc::CLD_EXITED { End::Exited(status) } else { End::Killed { signal: status } };
    Some((pid, end))
}

/// Sends a signal, real-time ones included.
///
/// # Errors
/// ESRCH if the process has ended, EINVAL if there is no such signal.
pub(crate) fn signal(pidfd: impl AsFd, number: i32) -> io::Result<()> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: no memory is passed: the siginfo pointer may be null.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, number, ptr::null::<u8>(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Blocks every signal, for a process that waits for them.
pub(crate) fn block_signals() {
    let every = every_signal();
    // SAFETY: the set is initialised and only read.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const every, ptr::null_mut()) };
}

/// The number of the next signal to a process that has blocked them all, or -1 if the wait was disturbed.
pub(crate) fn next_signal() -> i32 {
    let every = every_signal();
    // SAFETY: the set is initialised and only read; the siginfo may be null.
    unsafe { libc::sigwaitinfo(&raw const every, ptr::null_mut()) }
}

fn every_signal() -> libc::sigset_t {
    let mut every = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set it is given.
    unsafe {
        libc::sigfillset(every.as_mut_ptr());
        every.assume_init()
    }
}

/// Signal dispositions and mask as a program expects to find them: the Rust runtime ignores SIGPIPE, the agent blocks
/// SIGCHLD.
pub(crate) fn reset_signals() {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; SIG_DFL installs no handler, so no code can run at a bad moment.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Registers a descriptor with the event loop.
///
/// # Errors
/// If its kind cannot be polled.
pub(crate) fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, refers to one file and always answers with the same number until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Forgets what the kernel has cached of a block device.
///
/// # Errors
/// What the ioctl returned.
pub(crate) fn drop_block_cache(disk: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument.
    let result = unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKFLSBUF, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct blkpg_partition` of `linux/blkpg.h`; lengths in bytes.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    length: i32,
    partition: *mut BlkpgPartition,
}

/// Makes a range of a disk a device of its own.
///
/// # Errors
/// What the ioctl returned.
pub(crate) fn add_partition(disk: impl AsFd, number: i32, start: i64, length: i64) -> io::Result<()> {
    blkpg(disk, BLKPG_ADD_PARTITION, number, start, length)
}

/// # Errors
/// What the ioctl returned: ENXIO for one that is not there.
pub(crate) fn remove_partition(disk: impl AsFd, number: i32) -> io::Result<()> {
    blkpg(disk, BLKPG_DEL_PARTITION, number, 0, 0)
}

fn blkpg(disk: impl AsFd, operation: i32, number: i32, start: i64, length: i64) -> io::Result<()> {
    let mut partition = BlkpgPartition { start, length, number, device_name: [0; 64], volume_name: [0; 64] };
    let size = i32::try_from(size_of::<BlkpgPartition>()).expect("a few words");
    let mut argument = BlkpgArgument { operation, flags: 0, length: size, partition: &raw mut partition };
    // SAFETY: BLKPG takes a `blkpg_ioctl_arg`, whose pointer leads to a `blkpg_partition`; both live across the call.
    let result = unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKPG, &raw mut argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the kernel's generator start anew from its pool, now and not when a minute has passed.
///
/// # Errors
/// What the ioctl returned: also if the pool has never been filled.
pub(crate) fn reseed_generator(random_device: impl AsFd) -> io::Result<()> {
    // SAFETY: RNDRESEEDCRNG takes no argument.
    let result = unsafe { libc::ioctl(random_device.as_fd().as_raw_fd(), RNDRESEEDCRNG, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Adds bytes to the kernel's pool and counts each of their bits as random.
///
/// # Errors
/// More than [`MAX_ENTROPY_BYTES`], or what the ioctl returned.
pub(crate) fn credit_entropy(random_device: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    /// `struct rand_pool_info` with room for the bytes.
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: i32,
        size_bytes: i32,
        bytes: [u8; MAX_ENTROPY_BYTES],
    }
    let mut info = PoolInfo { entropy_bits: 0, size_bytes: 0, bytes: [0; MAX_ENTROPY_BYTES] };
    let room =
        info.bytes.get_mut(..bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    room.copy_from_slice(bytes);
    info.size_bytes = i32::try_from(bytes.len()).expect("bounded by the array");
    info.entropy_bits = info.size_bytes * 8;
    // SAFETY: the kernel reads `size_bytes` bytes behind the two ints, which the array above bounds.
    let result = unsafe { libc::ioctl(random_device.as_fd().as_raw_fd(), RNDADDENTROPY, &raw const info) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Submits this process to a filter of system calls, for good. `program` is whole instructions of `struct sock_filter`.
///
/// # Errors
/// What seccomp(2) returned: EINVAL for a program that is none, EACCES without privilege or no_new_privs.
pub(crate) fn install_system_call_filter(program: &[libc::sock_filter], flags: u32) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions of the slice, which lives across the call, and writes none.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// More than processes have in practice.
const MAX_PEER_GROUPS: usize = 256;

/// The further groups of who has connected to a unix socket, as they were then.
///
/// # Errors
/// What getsockopt(2) returned.
pub(crate) fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; MAX_PEER_GROUPS];
    let size = groups.len() * size_of::<libc::gid_t>();
    let mut length = libc::socklen_t::try_from(size).expect("a few words");
    // SAFETY: the kernel writes at most `length` bytes to the vector, which has so many, and the length; both live across
    // the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        // Who has more is taken to have none, and may do less.
        return if error.raw_os_error() == Some(libc::ERANGE) { Ok(Vec::new()) } else { Err(error) };
    }
    groups.truncate(usize::try_from(length).expect("it was bounded") / size_of::<libc::gid_t>());
    Ok(groups)
}

/// What tells the network namespace of a socket from all others, for as long as the machine runs.
///
/// # Errors
/// What getsockopt(2) returned.
pub(crate) fn network_namespace_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).expect("eight fits");
    // SAFETY: the kernel writes at most `length` bytes to the integer, and the length; both live across the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}
