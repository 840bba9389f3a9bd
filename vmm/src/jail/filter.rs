//! Makes system call filters of the tables, and puts them on threads.
//!
//! Everything that is in no table ends the process: a thread that does what it never does is no longer ours. Two filters
//! apply to a thread: the process's, which has everything that any thread may do and is there before the
//! first thread is, and the thread's own.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::calls::{Call, EVERY_THREAD, SETUP, ThreadKind, WITHOUT_FLAGS_IN_SIGHT};
use super::{JailError, step};

/// Set once, while there is one thread.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Puts the process's filter on the calling thread, and so on every thread that is started later.
pub(super) fn close() -> Result<(), JailError> {
    let all = ThreadKind::ALL.into_iter().flat_map(ThreadKind::own_calls);
    let tables: Vec<&[Call]> = all.copied().chain([EVERY_THREAD, SETUP]).collect();
    hide(WITHOUT_FLAGS_IN_SIGHT).map_err(step("hide system calls"))?;
    apply(&tables).map_err(step("filter its system calls"))?;
    CLOSED.store(true, Ordering::Release);
    Ok(())
}

/// Leaves the calling thread only what its kind may call. Does nothing where the jail was not closed.
///
/// # Errors
/// The kernel refuses the filter.
pub(crate) fn enter_thread(kind: ThreadKind) -> io::Result<()> {
    if !CLOSED.load(Ordering::Acquire) {
        return Ok(());
    }
    let own = kind.own_calls().iter().copied();
    apply(&own.chain([EVERY_THREAD]).collect::<Vec<_>>())
}

fn apply(tables: &[&[Call]]) -> io::Result<()> {
    install(compile(tables, SeccompAction::KillProcess, SeccompAction::Allow))
}

/// Makes calls fail as if the kernel did not have them.
fn hide(table: &[Call]) -> io::Result<()> {
    install(compile(&[table], SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.cast_unsigned())))
}

fn install(program: Result<BpfProgram, BackendError>) -> io::Result<()> {
    seccompiler::apply_filter(&program.map_err(io::Error::other)?).map_err(|error| match error {
        seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => source,
        other => io::Error::other(other),
    })
}

/// Calls of the tables are `matching`, all others `otherwise`.
fn compile(
    tables: &[&[Call]],
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules(tables)?, otherwise, matching, TargetArch::x86_64)?.try_into()
}

/// By call, its rules: any one of them suffices, and a call without rules is always allowed.
fn rules(tables: &[&[Call]]) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let calls = || tables.iter().copied().flatten();
    for call in calls() {
        let of_call = rules.entry(call.number).or_default();
        if let Some(bits) = call.only_if {
            let operator = SeccompCmpOp::MaskedEq(bits.mask.into());
            let condition =
                SeccompCondition::new(bits.argument, SeccompCmpArgLen::Dword, operator, bits.value.into())?;
            of_call.push(SeccompRule::new(vec![condition])?);
        }
    }
    for call in calls().filter(|call| call.only_if.is_none()) {
        rules.insert(call.number, Vec::new());
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_compiles_and_every_thread_is_within_the_processs_filter() {
        let all: Vec<_> = ThreadKind::ALL.into_iter().flat_map(ThreadKind::own_calls).copied().collect();
        let process = rules(&[all.as_slice(), &[EVERY_THREAD, SETUP]].concat()).unwrap();
        for kind in ThreadKind::ALL {
            let tables = [kind.own_calls(), &[EVERY_THREAD]].concat();
            assert!(rules(&tables).unwrap().keys().all(|number| process.contains_key(number)), "{kind:?}");
        }
    }

    #[test]
    fn no_table_has_a_call_that_opens_executes_or_traces() {
        let forbidden = [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_kill,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_bind,
            libc::SYS_listen,
        ];
        let all: Vec<_> = ThreadKind::ALL.into_iter().flat_map(ThreadKind::own_calls).copied().collect();
        let process = rules(&[all.as_slice(), &[EVERY_THREAD, SETUP]].concat()).unwrap();
        for number in forbidden {
            assert!(!process.contains_key(&number), "system call {number}");
        }
    }
}
