//! A TAP interface of the host: one frame a system call, each behind a virtio header (see `header.rs`).
//!
//! The interface exists before and after the machine; whoever made it decides who may use it.

#![expect(unsafe_code, reason = "TAP interfaces are set up by ioctls")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::header::HEADER_BYTES;
use crate::config::MAX_TAP_NAME_BYTES;
use crate::host_files::{Access, HOST_FILES};

/// Where all TAP interfaces are.
const DEVICE: &str = "/dev/net/tun";

/// Ethernet frames without packet information, with virtio headers.
const MODE: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// There is none in this network namespace.
    #[error("there is no interface {0}: make it with `ip tuntap add {0} mode tap`")]
    Missing(String),
    /// Another process has it.
    #[error("interface {0} is in use by another process")]
    Busy(String),
    /// A step that the host refuses.
    #[error("interface {name}: cannot {step}: {source}")]
    Call {
        /// The interface.
        name: String,
        /// What cannot be done.
        step: &'static str,
        /// What the host says.
        source: io::Error,
    },
}

/// Attaches to the interface `name` of this network namespace, for a machine that is [handed](crate::handover) the
/// result under that name.
///
/// # Errors
/// There is no such interface, somebody else has it, or this process may not use it.
pub fn open_tap(name: &str) -> Result<OwnedFd, TapError> {
    open_attached(name).map(OwnedFd::from)
}

/// `TUN_F_` bits of every kernel there is: what a card offers that is bound to nothing yet.
pub(super) const OFFLOADS_EVERYWHERE: u32 =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;

/// Makes an interface in this network namespace for machines to attach to. It is down, and lasts until it is removed.
///
/// # Errors
/// There is one of this name already, or this process may not.
pub fn make_tap(name: &str) -> Result<(), TapError> {
    let failed = |step| move |source| TapError::Call { name: name.to_owned(), step, source };
    let file = HOST_FILES.open(Path::new(DEVICE), Access::ReadWrite).map_err(failed("open /dev/net/tun"))?;
    // Without the flag, one that is there and unused would be taken for the new one.
    attach(&file, name, MODE | libc::IFF_TUN_EXCL).map_err(failed("make it"))?;
    // SAFETY: this request takes a number, no pointer.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, 1) } != 0 {
        return Err(failed("make it last")(io::Error::last_os_error()));
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) struct Tap {
    name: String,
    file: File,
    /// `TUN_F_` bits that this host knows.
    known_offloads: u32,
}

impl Tap {
    /// Attaches to the interface of that name, which must exist in this process's network namespace; or takes what was
    /// handed over under that name, attached by whoever did.
    ///
    /// # Errors
    /// Names the interface, and the fix where there is one.
    pub(crate) fn open(name: &str) -> Result<Self, TapError> {
        let failed = |step| move |source| TapError::Call { name: name.to_owned(), step, source };
        let file = match HOST_FILES.take(Path::new(name)) {
            Some(descriptor) => descriptor.into(),
            None => open_attached(name)?,
        };
        check_mode(&file).map_err(failed("use it as a TAP interface with virtio headers"))?;
        fcntl_setfl(&file, OFlags::NONBLOCK)
            .map_err(|error| failed("use it without waiting")(error.into()))?;
        let header_bytes = libc::c_int::try_from(HEADER_BYTES).expect("a few bytes");
        set(&file, libc::TUNSETVNETHDRSZ, &header_bytes).map_err(failed("set its header's size"))?;
        let known_offloads = known_offloads(&file);
        Ok(Self { name: name.to_owned(), file, known_offloads })
    }

    /// A socket that keeps messages apart in the place of an interface, for fuzzing.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of_socket(socket: std::os::fd::OwnedFd, known_offloads: u32) -> Self {
        Self { name: "socket".to_owned(), file: socket.into(), known_offloads }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn known_offloads(&self) -> u32 {
        self.known_offloads
    }

    /// From now on frames for the guest may be as these `TUN_F_` bits say: without checksums, longer than the MTU.
    pub(super) fn set_offloads(&self, offloads: u32) -> io::Result<()> {
        set_offloads(&self.file, offloads)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open_attached(name: &str) -> Result<File, TapError> {
    let failed = |step| move |source| TapError::Call { name: name.to_owned(), step, source };
    let file = HOST_FILES.open(Path::new(DEVICE), Access::ReadWrite).map_err(failed("open /dev/net/tun"))?;
    check_exists(name)?;
    attach(&file, name, MODE).map_err(|source| match source.raw_os_error() {
        Some(libc::EBUSY) => TapError::Busy(name.to_owned()),
        _ => failed("attach to it as a TAP interface")(source),
    })?;
    Ok(file)
}

/// Attaching would make the interface if it were missing: one that leads nowhere, for as long as we live.
fn check_exists(name: &str) -> Result<(), TapError> {
    let found = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| netdevice::name_to_index(&socket, name));
    match found {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::NODEV) => Err(TapError::Missing(name.to_owned())),
        Err(error) => Err(TapError::Call { name: name.to_owned(), step: "look it up", source: error.into() }),
    }
}

fn attach(file: &File, name: &str, mode: libc::c_int) -> io::Result<()> {
    if name.len() > MAX_TAP_NAME_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut request = no_request();
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = u16::try_from(mode).expect("flags have 16 bits").cast_signed();
    set(file, libc::TUNSETIFF, &request)
}

fn no_request() -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid request: an empty name and no flags.
    unsafe { std::mem::zeroed() }
}

/// A descriptor that somebody else made may be anything.
fn check_mode(file: &File) -> io::Result<()> {
    let mut answer = no_request();
    // SAFETY: this request writes the structure it is given, which lives until the call returns.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF, &raw mut answer) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: this request answers with flags; any bits are valid ones.
    let flags = unsafe { answer.ifr_ifru.ifru_flags };
    if libc::c_int::from(flags) & MODE == MODE { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// What this host's kernel knows of: the sets it may take, newest last.
fn known_offloads(file: &File) -> u32 {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp_fragments = libc::TUN_F_UFO;
    let udp_segments = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let mut known = 0;
    for more in [libc::TUN_F_CSUM, tcp, udp_fragments, udp_segments] {
        if set_offloads(file, known | more).is_ok() {
            known |= more;
        }
    }
    // None is what it begins with.
    set_offloads(file, 0).ok();
    known
}

fn set_offloads(file: &File, offloads: u32) -> io::Result<()> {
    // SAFETY: this request takes its argument by value.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// For requests that read a structure and change nothing of ours.
fn set<T>(file: &File, request: libc::Ioctl, argument: &T) -> io::Result<()> {
    // SAFETY: the callers pair the request with the structure it reads, which lives until the call returns. TUNSETIFF
    // writes the interface's name back, into memory that nobody reads afterwards.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::from_ref(argument)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
