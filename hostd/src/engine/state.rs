//! A container's lifecycle: its states and every legal step between them. Pure; no I/O, no clock.
//!
//! ```text
//!            Start              Started             Exited
//!  Created ---------> Starting ---------> Running ---------> Exited
//!     |  ^               |                                    |  ||
//!     |  +--StartFailed--+--StartFailed (was Exited)--> Exited|  || Start
//!     |                                                       |  |+------> Starting
//!     |             AwaitRestart              Start           |  |
//!     |     Exited -------------> Restarting -------> Starting|  |
//!     |            <-------------                             |  |
//!     |             GiveUpRestart                             |  |
//!     +-----------------------Remove--------------------------+--+-> Removing
//! ```
//! A running container may be paused and go on (Pause, Unpause); paused, it ends as it does running.
//! Running and restarting containers are removed only through Exited: force means "kill, then remove".

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a container stands, with what only that state has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ContainerState {
    /// Never ran. A start that failed leaves its reason.
    Created {
        start_failure: Option<StartFailure>,
    },
    /// A machine is being made for it; `previous` is what it falls back to.
    Starting {
        previous: Option<Exit>,
        /// Its restart policy, not somebody, starts it.
        #[serde(default)]
        again: bool,
    },
    Running(Run),
    /// Its processes stand still.
    Paused(Run),
    Exited(Exit),
    /// Ended, and about to be started again by its restart policy.
    Restarting(Exit),
    /// Being deleted; nothing else may happen to it.
    Removing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first process's id, as its machine's kernel numbers it.
    pub pid: u32,
    pub started_at: Timestamp,
}

/// How and when a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i64,
    pub oom_killed: bool,
    /// Set when Berth rather than the program is the cause: a start that failed, a machine that died.
    pub error: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

/// Why a container did not start; `code` is what a shell would report (127 not found, 126 not executable).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    pub code: i64,
    pub message: String,
}

/// What can happen to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Start,
    Started(Run),
    StartFailed {
        failure: StartFailure,
        at: Timestamp,
    },
    Pause,
    Unpause,
    Exited(Exit),
    /// A restart policy wants another run.
    AwaitRestart,
    /// Somebody wants no other run, policy or not.
    GiveUpRestart,
    Remove,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a container that is {from} cannot {step}")]
pub struct IllegalStep {
    pub from: &'static str,
    pub step: &'static str,
}

impl ContainerState {
    /// The state after `step`.
    ///
    /// # Errors
    /// [`IllegalStep`] where the diagram above has no arrow; the state stays as it is.
    pub fn after(&self, step: Step) -> Result<Self, IllegalStep> {
        match (self, step) {
            (Self::Created { .. }, Step::Start) => Ok(Self::Starting { previous: None, again: false }),
            (Self::Exited(exit), Step::Start) => {
                Ok(Self::Starting { previous: Some(exit.clone()), again: false })
            }
            (Self::Restarting(exit), Step::Start) => {
                Ok(Self::Starting { previous: Some(exit.clone()), again: true })
            }
            (Self::Starting { .. }, Step::Started(run)) => Ok(Self::Running(run)),
            (Self::Starting { previous, .. }, Step::StartFailed { failure, at }) => {
                Ok(Self::after_failed_start(previous.as_ref(), failure, at))
            }
            (Self::Running(run), Step::Pause) => Ok(Self::Paused(run.clone())),
            (Self::Paused(run), Step::Unpause) => Ok(Self::Running(run.clone())),
            (Self::Running(_) | Self::Paused(_), Step::Exited(exit)) => Ok(Self::Exited(exit)),
            (Self::Exited(exit), Step::AwaitRestart) => Ok(Self::Restarting(exit.clone())),
            (Self::Restarting(exit), Step::GiveUpRestart) => Ok(Self::Exited(exit.clone())),
            (Self::Created { .. } | Self::Exited(_), Step::Remove) => Ok(Self::Removing),
            (from, step) => Err(IllegalStep { from: from.name(), step: step.name() }),
        }
    }

    fn after_failed_start(previous: Option<&Exit>, failure: StartFailure, at: Timestamp) -> Self {
        match previous {
            None => Self::Created { start_failure: Some(failure) },
            Some(exit) => Self::Exited(Exit {
                code: failure.code,
                oom_killed: false,
                error: failure.message,
                started_at: exit.started_at,
                finished_at: at,
            }),
        }
    }

    /// Docker's word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Restarting(_) | Self::Starting { again: true, .. } => "restarting",
            Self::Created { .. } | Self::Starting { previous: None, .. } => "created",
            Self::Starting { previous: Some(_), .. } | Self::Exited(_) => "exited",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Removing => "removing",
        }
    }

    /// It has processes, whether they stand still or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Paused(_))
    }

    #[must_use]
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::Paused(_))
    }

    /// It waits for another run, or is on its way to it.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        matches!(self, Self::Restarting(_) | Self::Starting { again: true, .. })
    }

    /// What Docker counts as running: it does, or will again without anybody's doing.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_running() || self.is_restarting()
    }
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Started(_) => "have started",
            Self::Pause => "be paused",
            Self::Unpause => "be unpaused",
            Self::StartFailed { .. } => "fail to start",
            Self::Exited(_) => "exit",
            Self::AwaitRestart => "be restarted by its policy",
            Self::GiveUpRestart => "stop being restarted",
            Self::Remove => "be removed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit() -> Exit {
        let at = Timestamp::UNIX_EPOCH;
        Exit { code: 3, oom_killed: false, error: String::new(), started_at: at, finished_at: at }
    }

    fn run() -> Run {
        Run { pid: 7, started_at: Timestamp::UNIX_EPOCH }
    }

    fn failure() -> StartFailure {
        StartFailure { code: 127, message: "not found".into() }
    }

    fn states() -> Vec<ContainerState> {
        vec![
            ContainerState::Created { start_failure: None },
            ContainerState::Starting { previous: None, again: false },
            ContainerState::Running(run()),
            ContainerState::Paused(run()),
            ContainerState::Exited(exit()),
            ContainerState::Restarting(exit()),
            ContainerState::Removing,
        ]
    }

    fn steps() -> Vec<Step> {
        vec![
            Step::Start,
            Step::Started(run()),
            Step::StartFailed { failure: failure(), at: Timestamp::UNIX_EPOCH },
            Step::Pause,
            Step::Unpause,
            Step::Exited(exit()),
            Step::AwaitRestart,
            Step::GiveUpRestart,
            Step::Remove,
        ]
    }

    #[test]
    fn the_table_of_legal_steps_is_exactly_this() {
        let legal: Vec<Vec<bool>> = states()
            .iter()
            .map(|state| steps().into_iter().map(|step| state.after(step).is_ok()).collect())
            .collect();
        let expected = [
            // Start, Started, StartFailed, Pause, Unpause, Exited, AwaitRestart, GiveUpRestart, Remove
            [true, false, false, false, false, false, false, false, true], // Created
            [false, true, true, false, false, false, false, false, false], // Starting
            [false, false, false, true, false, true, false, false, false], // Running
            [false, false, false, false, true, true, false, false, false], // Paused
            [true, false, false, false, false, false, true, false, true],  // Exited
            [true, false, false, false, false, false, false, true, false], // Restarting
            [false, false, false, false, false, false, false, false, false], // Removing
        ];
        assert_eq!(legal, expected);
    }

    #[test]
    fn a_first_start_that_fails_leaves_a_created_container_with_the_reason() {
        let starting = ContainerState::Created { start_failure: None }.after(Step::Start).unwrap();
        let failed =
            starting.after(Step::StartFailed { failure: failure(), at: Timestamp::UNIX_EPOCH }).unwrap();
        assert_eq!(failed, ContainerState::Created { start_failure: Some(failure()) });
    }

    #[test]
    fn a_restart_shows_until_it_runs_and_fails_to_an_exit() {
        let restarting = ContainerState::Exited(exit()).after(Step::AwaitRestart).unwrap();
        let starting = restarting.after(Step::Start).unwrap();
        assert_eq!((restarting.name(), starting.name()), ("restarting", "restarting"));
        assert_eq!(starting.after(Step::Started(run())).unwrap().name(), "running");
        let failed =
            starting.after(Step::StartFailed { failure: failure(), at: Timestamp::UNIX_EPOCH }).unwrap();
        assert_eq!(failed.name(), "exited");
        assert_eq!(restarting.after(Step::GiveUpRestart).unwrap(), ContainerState::Exited(exit()));
    }

    #[test]
    fn a_later_start_that_fails_leaves_an_exited_container_with_the_reason() {
        let starting = ContainerState::Exited(exit()).after(Step::Start).unwrap();
        let failed =
            starting.after(Step::StartFailed { failure: failure(), at: Timestamp::UNIX_EPOCH }).unwrap();
        let ContainerState::Exited(exit) = failed else { panic!("{failed:?}") };
        assert_eq!((exit.code, exit.error.as_str()), (127, "not found"));
    }
}
