//! The system calls that each kind of thread may make, as tables. Whatever is not in them ends the process.
//!
//! A thread may make the calls of [`EVERY_THREAD`] and those of its own table. A path is in no table: nothing opens,
//! executes, mounts or traces anything once the jail is closed, and nothing makes memory executable.

use libc::c_long;

/// What a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThreadKind {
    /// Starts the machine, then waits for its end.
    Main,
    /// Waits for SIGTERM and SIGINT.
    Signals,
    /// Accepts and answers control connections.
    Control,
    /// Moves the disks' bytes.
    Disks,
    /// Serves every other device.
    Devices,
    /// Fills the memory of a machine that goes on from a snapshot.
    Memory,
    /// Runs a processor of the guest, and what the guest's accesses to registers cause.
    Vcpu,
}

impl ThreadKind {
    pub(super) const ALL: [Self; 7] =
        [Self::Main, Self::Signals, Self::Control, Self::Disks, Self::Devices, Self::Memory, Self::Vcpu];

    /// As it is called in lists of threads; processors have their number behind it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Signals => "signals",
            Self::Control => "control",
            Self::Disks => "disks",
            Self::Devices => "devices",
            Self::Memory => "memory",
            Self::Vcpu => "vcpu",
        }
    }

    /// What it may call beside [`EVERY_THREAD`].
    pub(super) fn own_calls(self) -> &'static [&'static [Call]] {
        match self {
            Self::Main => &[MAIN],
            Self::Signals => &[SIGNALS],
            Self::Control => &[CONTROL, STARTING_THREADS, KVM_OF_CONTROL],
            Self::Disks => &[DISKS],
            Self::Devices => &[DEVICES],
            Self::Memory => &[MEMORY],
            Self::Vcpu => &[VCPU, KVM_OF_VCPU],
        }
    }
}

/// A call, and which of its arguments must have which bits, if any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: c_long,
    pub(super) only_if: Option<Bits>,
}

/// Of argument number `argument`, the bits of `mask` are those of `value`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits {
    pub(super) argument: u8,
    pub(super) mask: u32,
    pub(super) value: u32,
}

const fn call(number: c_long) -> Call {
    Call { number, only_if: None }
}

const fn call_if(number: c_long, argument: u8, mask: u32, value: u32) -> Call {
    Call { number, only_if: Some(Bits { argument, mask, value }) }
}

const fn with_signal(signal: u32) -> Call {
    call_if(libc::SYS_tgkill, 2, ALL_BITS, signal)
}

/// A request of KVM's, by its number (linux/kvm.h); sizes and directions are KVM's to check.
const fn kvm(number: u8) -> Call {
    call_if(libc::SYS_ioctl, 1, 0xffff, KVM_REQUESTS | number as u32)
}

const ALL_BITS: u32 = u32::MAX;
const EXECUTABLE: u32 = libc::PROT_EXEC.cast_unsigned();
/// `KVMIO`, in an ioctl's second byte.
const KVM_REQUESTS: u32 = kvm_bindings::KVMIO << 8;
/// `UFFDIO`, in the same place.
const USER_FAULT_REQUESTS: u32 = 0xaa << 8;
/// The first real-time signal that the C library leaves free: it takes a vCPU out of the guest.
const KICK: u32 = 34;
const ABORT: u32 = libc::SIGABRT.cast_unsigned();
const NAME_THREAD: u32 = libc::PR_SET_NAME.cast_unsigned();
const NO_NEW_PRIVILEGES: u32 = libc::PR_SET_NO_NEW_PRIVS.cast_unsigned();
const NEW_THREAD: u32 = libc::CLONE_THREAD.cast_unsigned();
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();
/// The C library names the memory it maps, on kernels that show the names.
const NAME_MEMORY: u32 = libc::PR_SET_VMA.cast_unsigned();
const UNIX: u32 = libc::AF_UNIX.cast_unsigned();
/// `TUNSETOFFLOAD` and `TUNSETVNETHDRSZ` (linux/if_tun.h): what a network card's driver has negotiated.
const TAP_OFFLOADS: u32 = 0x4004_54d0;
/// Which mode an interface is in.
const TAP_MODE: u32 = 0x8004_54d2;
const TAP_HEADER_BYTES: u32 = 0x4004_54d8;
const NONBLOCKING: u32 = 0x5421;
const SEND_BUFFER: u32 = libc::SO_SNDBUF.cast_unsigned();

/// Memory, locks, time, signals' ends and the thread's own: what the language and the C library need anywhere.
pub(super) const EVERY_THREAD: &[Call] = &[
    call(libc::SYS_brk),
    call(libc::SYS_clock_gettime),
    call(libc::SYS_clock_nanosleep),
    call(libc::SYS_close),
    call(libc::SYS_exit),
    call(libc::SYS_exit_group),
    // Debug builds look at a descriptor before they close it.
    call_if(libc::SYS_fcntl, 1, ALL_BITS, libc::F_GETFD.cast_unsigned()),
    call(libc::SYS_futex),
    call(libc::SYS_getpid),
    call(libc::SYS_getrandom),
    call(libc::SYS_gettid),
    call(libc::SYS_madvise),
    call_if(libc::SYS_mmap, 2, EXECUTABLE, 0),
    call_if(libc::SYS_mprotect, 2, EXECUTABLE, 0),
    call(libc::SYS_mremap),
    call(libc::SYS_munmap),
    call(libc::SYS_nanosleep),
    call_if(libc::SYS_prctl, 0, ALL_BITS, NAME_MEMORY),
    call_if(libc::SYS_prctl, 0, ALL_BITS, NAME_THREAD),
    call(libc::SYS_read),
    call(libc::SYS_restart_syscall),
    call(libc::SYS_rt_sigprocmask),
    call(libc::SYS_rt_sigreturn),
    call(libc::SYS_sched_yield),
    call(libc::SYS_sigaltstack),
    with_signal(ABORT),
    // Event descriptors, and words for standard error.
    call(libc::SYS_write),
    // The console log, to which any thread may have to report.
    call(libc::SYS_ftruncate),
    call(libc::SYS_pread64),
    call(libc::SYS_pwrite64),
];

/// Calls that the kernel is to seem to lack, so that the C library makes older ones whose arguments a filter can see.
pub(super) const WITHOUT_FLAGS_IN_SIGHT: &[Call] = &[call(libc::SYS_clone3)];

/// A new thread runs with its creator's table until it has its own.
const STARTING_THREADS: &[Call] = &[
    call_if(libc::SYS_clone, 0, NEW_THREAD | NEW_NAMESPACES, NEW_THREAD),
    // Its flags are out of a filter's sight: see `WITHOUT_FLAGS_IN_SIGHT`.
    call(libc::SYS_clone3),
    call_if(libc::SYS_prctl, 0, ALL_BITS, NO_NEW_PRIVILEGES),
    call(libc::SYS_rseq),
    call(libc::SYS_sched_getaffinity),
    call(libc::SYS_seccomp),
    call(libc::SYS_set_robust_list),
];

/// Its threads run: it waits, takes the processors out of the guest, and writes how the machine ended.
const MAIN: &[Call] = &[call(libc::SYS_epoll_ctl), call(libc::SYS_shutdown), with_signal(KICK)];

const SIGNALS: &[Call] = &[call(libc::SYS_rt_sigtimedwait)];

/// Requests and their descriptors; pausing; the files of disks and snapshots, once they are open.
const CONTROL: &[Call] = &[
    // An interface that a card is bound to.
    call_if(libc::SYS_ioctl, 1, ALL_BITS, TAP_MODE),
    call_if(libc::SYS_ioctl, 1, ALL_BITS, TAP_HEADER_BYTES),
    call_if(libc::SYS_ioctl, 1, ALL_BITS, TAP_OFFLOADS),
    call(libc::SYS_accept4),
    call(libc::SYS_epoll_ctl),
    call(libc::SYS_eventfd2),
    call(libc::SYS_fallocate),
    call(libc::SYS_fcntl),
    call(libc::SYS_fdatasync),
    call(libc::SYS_fstat),
    call(libc::SYS_fsync),
    call(libc::SYS_lseek),
    call(libc::SYS_mincore),
    call(libc::SYS_poll),
    call(libc::SYS_ppoll),
    call(libc::SYS_preadv),
    call(libc::SYS_pwritev),
    call(libc::SYS_recvfrom),
    call(libc::SYS_recvmsg),
    call(libc::SYS_sendmsg),
    call(libc::SYS_sendto),
    call(libc::SYS_shutdown),
    call(libc::SYS_statx),
    with_signal(KICK),
];

/// The machine's state as a whole belongs to whoever saves it.
const KVM_OF_CONTROL: &[Call] = &[call_if(libc::SYS_ioctl, 1, 0xff00, KVM_REQUESTS)];

const DISKS: &[Call] = &[
    call(libc::SYS_epoll_ctl),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_wait),
    call(libc::SYS_fallocate),
    call(libc::SYS_fdatasync),
    call(libc::SYS_fstat),
    call(libc::SYS_fsync),
    // The ring itself is made before the jail's end, restricted to reads, writes and their like.
    call(libc::SYS_io_uring_enter),
    call(libc::SYS_preadv),
    call(libc::SYS_preadv2),
    call(libc::SYS_pwritev),
    call(libc::SYS_pwritev2),
    call(libc::SYS_statx),
];

/// Sockets of the guest's connections, network cards, and memory that the balloon gives back.
const DEVICES: &[Call] = &[
    call(libc::SYS_accept4),
    // Reaches what is in the empty root: the sockets that the daemon put there.
    call(libc::SYS_connect),
    call(libc::SYS_epoll_ctl),
    call(libc::SYS_epoll_pwait),
    call(libc::SYS_epoll_wait),
    call(libc::SYS_fallocate),
    call_if(libc::SYS_ioctl, 1, ALL_BITS, NONBLOCKING),
    call_if(libc::SYS_ioctl, 1, ALL_BITS, TAP_OFFLOADS),
    call(libc::SYS_readv),
    call(libc::SYS_recvfrom),
    call(libc::SYS_recvmsg),
    call(libc::SYS_sendmsg),
    call(libc::SYS_sendto),
    // A connection's buffer is as large as what the guest may have under way.
    call_if(libc::SYS_setsockopt, 2, ALL_BITS, SEND_BUFFER),
    call(libc::SYS_shutdown),
    call_if(libc::SYS_socket, 0, ALL_BITS, UNIX),
    // A card whose rate is used up waits.
    call(libc::SYS_timerfd_settime),
    call(libc::SYS_writev),
];

/// Who waits for which page, and putting it there (linux/userfaultfd.h).
const MEMORY: &[Call] = &[
    call_if(libc::SYS_ioctl, 1, 0xff00, USER_FAULT_REQUESTS),
    call(libc::SYS_lseek),
    call(libc::SYS_poll),
    call(libc::SYS_ppoll),
];

/// A driver's start and end: descriptors come to event loops and leave them, cards and shares learn what was negotiated.
const VCPU: &[Call] = &[
    call(libc::SYS_epoll_ctl),
    call(libc::SYS_fallocate),
    call_if(libc::SYS_ioctl, 1, ALL_BITS, TAP_OFFLOADS),
    call_if(libc::SYS_ioctl, 1, ALL_BITS, TAP_HEADER_BYTES),
    // A disk's reset waits for what its ring has under way.
    call(libc::SYS_poll),
    call(libc::SYS_ppoll),
    call(libc::SYS_recvmsg),
    call(libc::SYS_sendmsg),
    call(libc::SYS_shutdown),
];

/// Running a processor, and its state.
const KVM_OF_VCPU: &[Call] = &[
    kvm(0x80), // KVM_RUN
    kvm(0x81), // KVM_GET_REGS
    kvm(0x82), // KVM_SET_REGS
    kvm(0x83), // KVM_GET_SREGS
    kvm(0x84), // KVM_SET_SREGS
    kvm(0x88), // KVM_GET_MSRS
    kvm(0x89), // KVM_SET_MSRS
    kvm(0x8c), // KVM_GET_FPU
    kvm(0x8d), // KVM_SET_FPU
    kvm(0x8e), // KVM_GET_LAPIC
    kvm(0x8f), // KVM_SET_LAPIC
    kvm(0x90), // KVM_SET_CPUID2
    kvm(0x91), // KVM_GET_CPUID2
    kvm(0x98), // KVM_GET_MP_STATE
    kvm(0x99), // KVM_SET_MP_STATE
    kvm(0x9a), // KVM_NMI
    kvm(0x9f), // KVM_GET_VCPU_EVENTS
    kvm(0xa0), // KVM_SET_VCPU_EVENTS
    kvm(0xa1), // KVM_GET_DEBUGREGS
    kvm(0xa2), // KVM_SET_DEBUGREGS, KVM_SET_TSC_KHZ
    kvm(0xa3), // KVM_GET_TSC_KHZ
    kvm(0xa4), // KVM_GET_XSAVE
    kvm(0xa5), // KVM_SET_XSAVE
    kvm(0xa6), // KVM_GET_XCRS
    kvm(0xa7), // KVM_SET_XCRS
    kvm(0xad), // KVM_KVMCLOCK_CTRL
    kvm(0xcf), // KVM_GET_XSAVE2
];

/// What starting a machine takes beyond all of the above. Its guest has run for moments at most.
pub(super) const SETUP: &[Call] = &[
    call(libc::SYS_dup),
    call(libc::SYS_dup2),
    call(libc::SYS_dup3),
    call(libc::SYS_epoll_create1),
    // The seals of guest memory that others may map.
    call(libc::SYS_fcntl),
    call(libc::SYS_io_uring_register),
    call(libc::SYS_io_uring_setup),
    call(libc::SYS_ioctl),
    call(libc::SYS_memfd_create),
    call(libc::SYS_newfstatat),
    call(libc::SYS_rt_sigaction),
    call(libc::SYS_socketpair),
    call(libc::SYS_sysinfo),
    call(libc::SYS_timerfd_create),
    call(libc::SYS_timerfd_settime),
    call(libc::SYS_uname),
];
