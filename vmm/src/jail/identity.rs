//! Who the process is: a user of its own, without capabilities and without a way to get any.

use nix::sched::{CloneFlags, unshare};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::{JailError, step};

/// Becomes `user`, or, where the daemon has no users to give away, nobody in particular of a user namespace that was
/// made before.
pub(super) fn become_nobody_else(user: Option<u32>) -> Result<(), JailError> {
    if let Some(user) = user {
        set_thread_groups(&[]).map_err(step("leave its groups"))?;
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        set_thread_res_gid(gid, gid, gid).map_err(step("become its own group"))?;
        set_thread_res_uid(uid, uid, uid).map_err(step("become its own user"))?;
        forget_all_users()?;
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(step("drop its capabilities"))?;
    never_more_privileges()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("forbid to be traced"))
}

/// In a user namespace without a map there is no user 0 to become again. Where the host's administrator allows none,
/// the process's own user has to be enough.
fn forget_all_users() -> Result<(), JailError> {
    use nix::errno::Errno;
    match unshare(CloneFlags::CLONE_NEWUSER) {
        Ok(()) | Err(Errno::EPERM | Errno::ENOSPC | Errno::EINVAL) => Ok(()),
        Err(error) => Err(step("make a user namespace")(error)),
    }
}

/// No program that is executed gets more than there is now.
pub(super) fn never_more_privileges() -> Result<(), JailError> {
    set_no_new_privs(true).map_err(step("renounce new privileges"))
}
