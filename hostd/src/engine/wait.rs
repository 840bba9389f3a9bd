//! Waiting for a container's end.

use tokio::sync::watch;

use super::Engine;
use super::container::Status;
use super::error::EngineError;
use super::state::ContainerState;

/// Which end is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run, or a run has ended since.
    #[default]
    NotRunning,
    /// The end of the next or current run.
    NextExit,
    Removed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitResult {
    pub code: i64,
    /// Set if not the program but its machine came to an end.
    pub error: Option<String>,
}

/// A wait that has begun: whatever happens from now on is noticed.
#[derive(Debug)]
pub struct Wait {
    status: watch::Receiver<Status>,
    condition: WaitCondition,
    runs_ended: u64,
}

impl Engine {
    /// Begins to wait; [`Wait::exit`] tells the end.
    ///
    /// # Errors
    /// No such container.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<Wait, EngineError> {
        let status = self.find(name)?.status.clone();
        let runs_ended = status.borrow().runs_ended;
        Ok(Wait { status, condition, runs_ended })
    }
}

impl Wait {
    /// How the container ended.
    pub async fn exit(mut self) -> WaitResult {
        let before = self.runs_ended;
        let condition = self.condition;
        let happened = self.status.wait_for(|status| {
            let is_so = match condition {
                WaitCondition::NotRunning => !is_alive(&status.state) || status.runs_ended > before,
                WaitCondition::NextExit => status.runs_ended > before,
                WaitCondition::Removed => false,
            };
            is_so || status.removed
        });
        let last_end = happened.await.map(|status| status.last_end.clone()).ok();
        // A driver that is gone has removed its container, or the daemon ends.
        let last_end = last_end.unwrap_or_else(|| self.status.borrow().last_end.clone());
        last_end.unwrap_or(WaitResult { code: 0, error: None })
    }
}

impl WaitResult {
    /// The end that a container in this state has come to.
    pub(super) fn of(state: &ContainerState) -> Option<Self> {
        match state {
            ContainerState::Exited(exit) | ContainerState::Restarting(exit) => {
                let error = Some(&exit.error).filter(|error| !error.is_empty()).cloned();
                Some(Self { code: exit.code, error })
            }
            // Why it did not start, whoever started it has been told.
            ContainerState::Created { start_failure: Some(failure) } => {
                Some(Self { code: failure.code, error: None })
            }
            ContainerState::Created { start_failure: None }
            | ContainerState::Starting { .. }
            | ContainerState::Running(_)
            | ContainerState::Paused(_)
            | ContainerState::Removing => None,
        }
    }
}

fn is_alive(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Starting { .. }) || state.is_up()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::super::spec::ContainerSpec;
    use super::super::state::{Exit, Run};
    use super::*;

    fn running() -> Status {
        Status {
            name: "x".into(),
            next_name: None,
            spec: Arc::new(ContainerSpec::default()),
            restart_count: 0,
            health: None,
            last_end: None,
            state: ContainerState::Running(Run { pid: 7, started_at: Timestamp::UNIX_EPOCH }),
            live: None,
            timeline: None,
            endpoints: Arc::default(),
            runs_ended: 0,
            removed: false,
        }
    }

    fn exited(code: i64) -> ContainerState {
        ContainerState::Exited(Exit {
            code,
            oom_killed: false,
            error: String::new(),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
        })
    }

    #[tokio::test]
    async fn a_wait_that_wakes_late_still_tells_the_code() {
        for condition in [WaitCondition::NotRunning, WaitCondition::NextExit, WaitCondition::Removed] {
            let (sender, status) = watch::channel(running());
            let wait = Wait { status, condition, runs_ended: 0 };
            // All before the waiter looks: it sees nothing but the last of these.
            sender.send_modify(|status| {
                status.enter(exited(3));
                status.runs_ended += 1;
            });
            sender.send_modify(|status| status.enter(ContainerState::Removing));
            sender.send_modify(|status| status.removed = true);
            drop(sender);
            assert_eq!(wait.exit().await, WaitResult { code: 3, error: None }, "{condition:?}");
        }
    }

    #[tokio::test]
    async fn a_container_that_was_started_again_meanwhile_tells_the_end_before() {
        let (sender, status) = watch::channel(running());
        let wait = Wait { status, condition: WaitCondition::NextExit, runs_ended: 0 };
        sender.send_modify(|status| {
            status.enter(exited(5));
            status.runs_ended += 1;
        });
        sender.send_modify(|status| status.enter(running().state));
        assert_eq!(wait.exit().await.code, 5);
    }
}
