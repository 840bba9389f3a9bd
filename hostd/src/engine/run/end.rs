//! How a run ended, as the agent says it or as its machine's remains do.

use berth_protocol::agent::ExitStatus;
use jiff::Timestamp;
use tokio::time::timeout;

use super::super::error::chain;
use super::super::state::Exit;
use super::DEATH_DEADLINE;
use crate::agent_client::CallError;
use crate::machine::Machine;

/// What can be said about a machine whose agent was lost. Ends what is left of it.
pub(super) async fn reason_of_death(machine: Machine, error: &CallError) -> String {
    if timeout(DEATH_DEADLINE, machine.ended()).await.is_ok() {
        return format!("the container's machine ended: {}", machine.into_post_mortem().await);
    }
    let evidence = machine.console_evidence();
    machine.end().await;
    format!("the container's machine hangs and was ended: {}{evidence}", chain(error))
}

/// The guest's clock is its own: its word is kept within what the host knows.
pub(super) fn exit_of(status: &ExitStatus, started_at: Timestamp) -> Exit {
    let finished_at =
        Timestamp::from_nanosecond(status.finished_unix_ns.into()).unwrap_or_else(|_range| Timestamp::now());
    Exit {
        code: i64::from(status.code.min(255)),
        oom_killed: status.oom_killed,
        error: String::new(),
        started_at,
        finished_at: finished_at.clamp(started_at, Timestamp::now().max(started_at)),
    }
}

/// 137 is what a killed process leaves.
pub(in crate::engine) fn exit_of_dead_machine(reason: String, started_at: Timestamp) -> Exit {
    Exit { code: 137, oom_killed: false, error: reason, started_at, finished_at: Timestamp::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_end_before_it_started_or_in_the_future() {
        let started_at = Timestamp::now();
        for finished_unix_ns in [0, i64::MIN, i64::MAX] {
            let status = ExitStatus { code: 70_000, finished_unix_ns, ..ExitStatus::default() };
            let exit = exit_of(&status, started_at);
            assert!(exit.finished_at >= started_at && exit.finished_at <= Timestamp::now());
            assert_eq!(exit.code, 255);
        }
    }
}
