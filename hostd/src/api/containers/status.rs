//! The `STATUS` column of `ps`, in Docker's words.

use jiff::Timestamp;

use super::duration::in_words;
use crate::engine::{ContainerState, ContainerView, HealthStatus};

/// Of a container that runs also how it is.
pub(super) fn with_health(view: &ContainerView, now: Timestamp) -> String {
    let words = in_words_of_ps(&view.state, now);
    match &view.health {
        Some(health) if view.state.is_running() && !view.state.is_paused() => match health.status {
            HealthStatus::Starting => format!("{words} (health: starting)"),
            status => format!("{words} ({})", status.name()),
        },
        _ => words,
    }
}

fn in_words_of_ps(state: &ContainerState, now: Timestamp) -> String {
    match state {
        ContainerState::Created { .. } | ContainerState::Starting { previous: None, .. } => {
            "Created".to_owned()
        }
        ContainerState::Running(run) => format!("Up {}", in_words(now.duration_since(run.started_at))),
        ContainerState::Paused(run) => {
            format!("Up {} (Paused)", in_words(now.duration_since(run.started_at)))
        }
        ContainerState::Restarting(exit) | ContainerState::Starting { previous: Some(exit), again: true } => {
            format!("Restarting ({}) {} ago", exit.code, in_words(now.duration_since(exit.finished_at)))
        }
        ContainerState::Exited(exit) | ContainerState::Starting { previous: Some(exit), again: false } => {
            format!("Exited ({}) {} ago", exit.code, in_words(now.duration_since(exit.finished_at)))
        }
        ContainerState::Removing => "Removal In Progress".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Exit, Run};

    #[test]
    fn every_state_has_its_words() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let exit = Exit {
            code: 137,
            oom_killed: false,
            error: String::new(),
            started_at: at(0),
            finished_at: at(40),
        };
        for (state, words) in [
            (ContainerState::Created { start_failure: None }, "Created"),
            (ContainerState::Starting { previous: None, again: false }, "Created"),
            (ContainerState::Restarting(exit.clone()), "Restarting (137) About a minute ago"),
            (ContainerState::Running(Run { pid: 1, started_at: at(97) }), "Up 3 seconds"),
            (ContainerState::Exited(exit), "Exited (137) About a minute ago"),
            (ContainerState::Removing, "Removal In Progress"),
        ] {
            assert_eq!(in_words_of_ps(&state, at(100)), words);
        }
    }
}
