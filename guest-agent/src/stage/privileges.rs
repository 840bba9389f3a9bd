//! What a process may do: its user and groups, its capabilities, and the system calls it may make.
//!
//! The order is that of runc, because profiles are written for it. Without no_new_privs the filter of system
//! calls needs a privilege that is about to go, so it comes first; with it, the filter comes last, and so needs to allow
//! nothing of what lies between.

use std::os::fd::AsFd;

use berth_protocol::agent::{Capabilities, ErrorCode, Process, SystemCallFilter};
use rustix::fs::{FileType, Gid, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_gid, set_thread_groups, set_thread_uid,
};

use super::users::User;
use crate::failure::{During, Failure};
use crate::sys;

/// `struct sock_filter` of `linux/filter.h`.
const INSTRUCTION_BYTES: usize = 8;

/// Becomes the user, with the process's capabilities. This process has one thread, so what is said of the thread holds
/// for the process.
pub(super) fn drop_to(user: &User, process: &Process) -> Result<(), Failure> {
    if !process.no_new_privileges {
        filter_system_calls(process.system_call_filter.as_ref())?;
    }
    let step = || format!("become user {}:{}", user.uid, user.gid);
    let Some(capabilities) = &process.capabilities else {
        return become_user(user).during(ErrorCode::Internal, step);
    };
    bound(capabilities.bounding).during(ErrorCode::Internal, || "drop capabilities")?;
    set_keep_capabilities(true)
        .and_then(|()| become_user(user))
        .and_then(|()| set_keep_capabilities(false))
        .during(ErrorCode::Internal, step)?;
    hold(capabilities).during(ErrorCode::Internal, || "set capabilities")
}

/// Of the user namespace that this process has joined.
pub(super) fn become_root() -> Result<(), Failure> {
    let root = User { uid: 0, gid: 0, groups: Vec::new(), home: String::new() };
    become_user(&root).during(ErrorCode::Internal, || "become the container's root")
}

/// The last step before the program: from here on nothing is gained any more.
pub(super) fn seal(process: &Process) -> Result<(), Failure> {
    if !process.no_new_privileges {
        return Ok(());
    }
    set_no_new_privs(true).during(ErrorCode::Internal, || "set no_new_privs")?;
    filter_system_calls(process.system_call_filter.as_ref())
}

/// For a container's init, which runs code of ours only and passes signals on to whichever user the program is.
pub(super) fn restrict_init(process: &Process) -> Result<(), Failure> {
    let Some(capabilities) = &process.capabilities else { return Ok(()) };
    let kill = CapabilitySet::KILL.bits();
    let kept = Capabilities {
        permitted: capabilities.permitted | kill,
        effective: capabilities.effective | kill,
        ..*capabilities
    };
    bound(capabilities.bounding | kill)
        .and_then(|()| hold(&kept))
        .during(ErrorCode::Internal, || "set the init's capabilities")
}

fn become_user(user: &User) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups)
        .and_then(|()| set_thread_gid(Gid::from_raw(user.gid)))
        .and_then(|()| set_thread_uid(Uid::from_raw(user.uid)))
}

/// Gives up for good what is not in the set.
fn bound(bounding: u64) -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        let capability = 1 << number;
        if bounding & capability == 0 {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(capability)) {
                // The kernel knows no capability of this or a higher number.
                Err(Errno::INVAL) => break,
                removed => removed?,
            }
        }
    }
    Ok(())
}

fn hold(capabilities: &Capabilities) -> rustix::io::Result<()> {
    let set = CapabilitySet::from_bits_retain;
    let sets = CapabilitySets {
        effective: set(capabilities.effective),
        permitted: set(capabilities.permitted),
        inheritable: set(capabilities.inheritable),
    };
    set_capabilities(None, sets)?;
    clear_ambient_capability_set()?;
    for number in (0..u64::BITS).filter(|number| capabilities.ambient & (1 << number) != 0) {
        configure_capability_in_ambient_set(set(1 << number), true)?;
    }
    Ok(())
}

fn filter_system_calls(filter: Option<&SystemCallFilter>) -> Result<(), Failure> {
    let Some(filter) = filter else { return Ok(()) };
    let program = instructions(&filter.program)?;
    sys::install_system_call_filter(&program, filter.flags)
        .during(ErrorCode::InvalidRequest, || "install the filter of system calls")
}

fn instructions(program: &[u8]) -> Result<Vec<libc::sock_filter>, Failure> {
    let (instructions, rest) = program.as_chunks::<INSTRUCTION_BYTES>();
    if !rest.is_empty() {
        return Err(Failure::invalid("the filter of system calls ends within an instruction"));
    }
    let instruction =
        |&[code_low, code_high, jt, jf, a, b, c, d]: &[u8; INSTRUCTION_BYTES]| libc::sock_filter {
            code: u16::from_le_bytes([code_low, code_high]),
            jt,
            jf,
            k: u32::from_le_bytes([a, b, c, d]),
        };
    Ok(instructions.iter().map(instruction).collect())
}

/// Lets the user open its own standard streams again, by /dev/stdout or /proc/self/fd/1.
pub(super) fn hand_over_stdio(user: &User) -> Result<(), Failure> {
    let owner = Some(Uid::from_raw(user.uid));
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams.iter().filter(is_private) {
        fchown(stream, owner, None).during(ErrorCode::Internal, || "hand over a standard stream")?;
    }
    Ok(())
}

/// Pipes, and the terminal made for this process; /dev/null is everybody's.
fn is_private(stream: &impl AsFd) -> bool {
    let is_pipe = fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    is_pipe || rustix::termios::isatty(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_whole_instructions() {
        let allow = [0x06, 0, 1, 2, 0, 0, 0xff, 0x7f];
        let [instruction] = instructions(&allow).unwrap()[..] else { panic!("not one") };
        assert_eq!((instruction.code, instruction.jt, instruction.jf, instruction.k), (6, 1, 2, 0x7fff_0000));
        assert!(instructions(&allow[..7]).is_err());
    }
}
