//! The `State` of an inspected container.

use serde::Serialize;

use crate::api::time::NEVER;
use crate::engine::{self, ContainerState, Endpoint};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: &'static str,
    failing_streak: u32,
    log: Vec<Probe>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Probe {
    start: String,
    end: String,
    exit_code: i64,
    output: String,
}

/// Of a container that runs, in user mode.
const NETWORK_LOST: &str =
    "its network is gone: the passt process of its machine has ended; start the container again to have one";

impl State {
    /// What has become of its network meanwhile.
    pub(super) fn with_networks(self, endpoints: &[Endpoint]) -> Self {
        if !self.running || !endpoints.iter().any(|endpoint| endpoint.is_lost) {
            return self;
        }
        Self { error: NETWORK_LOST.to_owned(), ..self }
    }

    pub(super) fn with_health(self, health: Option<&engine::Health>) -> Self {
        let probe = |probe: &engine::Probe| Probe {
            start: probe.started_at.to_string(),
            end: probe.ended_at.to_string(),
            exit_code: probe.exit_code,
            output: probe.output.clone(),
        };
        let health = health.map(|health| Health {
            status: health.status.name(),
            failing_streak: health.failing_streak,
            log: health.log.iter().map(probe).collect(),
        });
        Self { health, ..self }
    }
}

impl From<&ContainerState> for State {
    fn from(state: &ContainerState) -> Self {
        let mut reply = Self {
            status: state.name(),
            running: state.is_up(),
            paused: state.is_paused(),
            restarting: state.is_restarting(),
            oom_killed: false,
            dead: false,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            started_at: NEVER.to_owned(),
            finished_at: NEVER.to_owned(),
            health: None,
        };
        match state {
            ContainerState::Created { start_failure: Some(failure) } => {
                reply.exit_code = failure.code;
                reply.error.clone_from(&failure.message);
            }
            ContainerState::Running(run) | ContainerState::Paused(run) => {
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
