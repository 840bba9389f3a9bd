//! The jail: what `berth-vmm` gives up before it looks at anything that a guest could have had a hand in.
//!
//! [`close`] is the list, in the order in which it must happen: a process that has become somebody else can no longer
//! change its root. What is left afterwards are the descriptors that were opened before, and the system calls of
//! [`calls`]. A step that the host refuses is an error, never a weaker jail; the one exception is Landlock, which
//! only older kernels lack and which repeats what the empty root says.
//!
//! Must be closed by a process that has one thread: threads take over what their creator is.

mod calls;
mod filter;
mod identity;
mod limits;
mod root;
#[cfg(test)]
mod tests;

use std::io;

use landlock::{ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, Scope};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

pub(crate) use self::calls::ThreadKind;
pub(crate) use self::filter::enter_thread;
pub(crate) use self::limits::Limits;
use crate::handover::Orders;

/// Why the jail could not be closed: nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} for the jail: {source}; a daemon with --no-jail starts machines without")]
pub(crate) struct JailError {
    step: &'static str,
    source: io::Error,
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> JailError {
    move |error| JailError { step, source: error.into() }
}

/// Closes the jail around this process, whose working directory is the machine's state directory.
///
/// # Errors
/// A step that the host refuses, by name.
pub(crate) fn close(orders: &Orders, limits: &Limits) -> Result<(), JailError> {
    separate(orders)?;
    root::empty()?;
    limits.set()?;
    identity::become_nobody_else(orders.user)?;
    forbid_paths_and_ports()?;
    filter::close()
}

/// What a machine that QEMU executes gives up: QEMU makes code at run time and loads libraries, so that most of
/// [`close`] would break it.
///
/// # Errors
/// A step that the host refuses, by name.
pub(crate) fn narrow() -> Result<(), JailError> {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    match unshare(own) {
        // A daemon without the right to make them runs for development, and so does tcg.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(error) => return Err(step("make namespaces")(error)),
    }
    limits::no_core_dumps()?;
    identity::never_more_privileges()
}

/// Leaves the host's namespaces. The process namespace is the daemon's business: it is born into one.
fn separate(orders: &Orders) -> Result<(), JailError> {
    let mut own = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if orders.user.is_none() {
        own |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(own).map_err(step("make namespaces"))
}

/// No path may be opened, no port bound or connected to, and nobody outside signalled, whatever else fails.
fn forbid_paths_and_ports() -> Result<(), JailError> {
    let restricted = || -> Result<_, RulesetError> {
        // The newest version that is known here; what the kernel does not know is left out.
        Ruleset::default()
            .handle_access(AccessFs::from_all(ABI::V6))?
            .handle_access(AccessNet::from_all(ABI::V6))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .restrict_self()
    };
    restricted().map(drop).map_err(io::Error::other).map_err(step("restrict itself with Landlock"))
}
