//! The `State` of an inspected container.

use serde::Serialize;

use crate::engine::ContainerState;

/// Go's zero time: "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    /// As the machine's kernel numbers it.
    pid: u32,
    exit_code: i64,
    error: String,
    started_at: String,
    finished_at: String,
}

impl From<&ContainerState> for State {
    fn from(state: &ContainerState) -> Self {
        let mut reply = Self {
            status: state.name(),
            running: state.is_up(),
            paused: false,
            restarting: state.is_restarting(),
            oom_killed: false,
            dead: false,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            started_at: NEVER.to_owned(),
            finished_at: NEVER.to_owned(),
        };
        match state {
            ContainerState::Created { start_failure: Some(failure) } => {
                reply.exit_code = failure.code;
                reply.error.clone_from(&failure.message);
            }
            ContainerState::Running(run) => {
                reply.pid = run.pid;
                reply.started_at = run.started_at.to_string();
            }
            ContainerState::Exited(exit)
            | ContainerState::Restarting(exit)
            | ContainerState::Starting { previous: Some(exit), .. } => {
                reply.oom_killed = exit.oom_killed;
                reply.exit_code = exit.code;
                reply.error.clone_from(&exit.error);
                reply.started_at = exit.started_at.to_string();
                reply.finished_at = exit.finished_at.to_string();
            }
            ContainerState::Created { start_failure: None }
            | ContainerState::Starting { previous: None, .. }
            | ContainerState::Removing => {}
        }
        reply
    }
}
