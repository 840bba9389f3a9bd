//! What a process may do: its user and groups.
//!
//! Docker's capability set, no_new_privs and the seccomp profile belong here too, in this order: no_new_privs,
//! bounding set, user and groups, the remaining sets, seccomp. They are not applied yet: until their profile lands, the
//! machine is the boundary around a container, and root in it is root of its machine.

use std::os::fd::AsFd;

use berth_protocol::agent::ErrorCode;
use rustix::fs::{FileType, Gid, Uid, fchown, fstat};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::users::User;
use crate::failure::{During, Failure};

/// Becomes the user. This process has one thread, so what is said of the thread holds for the process.
pub(super) fn drop_to(user: &User) -> Result<(), Failure> {
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups)
        .and_then(|()| set_thread_gid(Gid::from_raw(user.gid)))
        .and_then(|()| set_thread_uid(Uid::from_raw(user.uid)))
        .during(ErrorCode::Internal, || format!("become user {}:{}", user.uid, user.gid))
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
