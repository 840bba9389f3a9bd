//! The kernel's own programs (bpf(2)): how `linux/bpf.h` encodes instructions, and the calls that load and attach them. Says
//! nothing of what a program is for.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Commands, kinds and flags of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of cgroups that the container makes below its own are asked as well, not instead.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// A system call of sockets that a program may change the address of, by its number in `linux/bpf.h`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SocketCall {
    Connect4 = 10,
    Connect6 = 11,
    SendMessage4 = 14,
    ReceiveMessage4 = 19,
    ReceiveMessage6 = 20,
    GetPeerName4 = 29,
}

/// `struct bpf_insn`: opcode, two registers, jump offset, constant.
pub(crate) const fn instruction(opcode: u8, target: u8, source: u8, offset: i16, constant: i32) -> u64 {
    opcode as u64
        | (target as u64) << 8
        | (source as u64) << 12
        | (offset.cast_unsigned() as u64) << 16
        | (constant.cast_unsigned() as u64) << 32
}

/// `BPF_EXIT`.
pub(crate) const EXIT: u64 = 0x95;

/// Loads a program that decides about the use of devices.
///
/// # Errors
/// What bpf(2) returned: EINVAL or EACCES if the kernel cannot prove the program harmless.
pub(crate) fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    load_program(BPF_PROG_TYPE_CGROUP_DEVICE, 0, instructions)
}

/// Loads a program that may change the address of a socket's system call.
///
/// # Errors
/// As [`load_device_program`].
pub(crate) fn load_socket_program(call: SocketCall, instructions: &[u64]) -> io::Result<OwnedFd> {
    load_program(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, call as u32, instructions)
}

fn load_program(kind: u32, attach_kind: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    /// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`; those behind them are zero where absent.
    #[repr(C)]
    struct Load {
        kind: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_kind: u32,
    }
    let load = Load {
        kind,
        instruction_count: u32::try_from(instructions.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        instructions: instructions.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_kind,
    };
    // SAFETY: the kernel copies the instructions and the license, which live across the call, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    let descriptor =
        RawFd::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: bpf succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Makes a loaded program decide for the processes of a cgroup. It stays after both descriptors are closed.
///
/// # Errors
/// What bpf(2) returned.
pub(crate) fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    /// The first fields of `union bpf_attr` for `BPF_PROG_ATTACH`.
    #[repr(C)]
    struct Attach {
        cgroup: RawFd,
        program: RawFd,
        kind: u32,
        flags: u32,
    }
    let attach = Attach {
        cgroup: cgroup.as_fd().as_raw_fd(),
        program: program.as_fd().as_raw_fd(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the kernel reads the plain struct, which lives across the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a loaded program decide for the sockets of a cgroup's processes, until what this gives is closed.
///
/// # Errors
/// What bpf(2) returned.
pub(crate) fn link_socket_program(
    call: SocketCall,
    cgroup: impl AsFd,
    program: impl AsFd,
) -> io::Result<OwnedFd> {
    /// The first fields of `union bpf_attr` for `BPF_LINK_CREATE`.
    #[repr(C)]
    struct Link {
        program: RawFd,
        cgroup: RawFd,
        kind: u32,
        flags: u32,
    }
    let link = Link {
        program: program.as_fd().as_raw_fd(),
        cgroup: cgroup.as_fd().as_raw_fd(),
        kind: call as u32,
        flags: 0,
    };
    // SAFETY: the kernel reads the plain struct, which lives across the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw const link, size_of::<Link>()) };
    let descriptor =
        RawFd::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: bpf succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
