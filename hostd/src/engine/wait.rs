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
        let (condition, before) = (self.condition, self.runs_ended);
        let mut last_exit = WaitResult { code: 0, error: None };
        loop {
            let status = self.status.borrow_and_update().clone();
            if let Some(exit) = exit_of(&status.state) {
                last_exit = exit;
            }
            let happened = match condition {
                WaitCondition::NotRunning => !is_alive(&status.state) || status.runs_ended > before,
                WaitCondition::NextExit => status.runs_ended > before,
                WaitCondition::Removed => false,
            };
            // A driver that is gone has removed its container, or the daemon ends.
            if happened || status.removed || self.status.changed().await.is_err() {
                return last_exit;
            }
        }
    }
}

fn is_alive(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Starting { .. }) || state.is_up()
}

fn exit_of(state: &ContainerState) -> Option<WaitResult> {
    match state {
        ContainerState::Exited(exit) | ContainerState::Restarting(exit) => {
            let error = Some(&exit.error).filter(|error| !error.is_empty()).cloned();
            Some(WaitResult { code: exit.code, error })
        }
        // Why it did not start, whoever started it has been told.
        ContainerState::Created { start_failure: Some(failure) } => {
            Some(WaitResult { code: failure.code, error: None })
        }
        ContainerState::Created { start_failure: None }
        | ContainerState::Starting { .. }
        | ContainerState::Running(_)
        | ContainerState::Paused(_)
        | ContainerState::Removing => None,
    }
}
