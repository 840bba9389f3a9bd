//! Whether and when a container is started again: Docker's restart policies and their back-off. Pure; the driver acts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{ContainerState, Exit};

/// Docker's: the first wait, the longest one, and how long a run has to last for the next wait to be the first again.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const LONG_RUN: Duration = Duration::from_secs(10);

/// What is done about a container that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    /// As `Always`, but a container that was stopped stays so when the daemon starts.
    UnlessStopped,
    /// Only what failed, and at most so many times; 0 is without a limit.
    OnFailure {
        max_retries: u32,
    },
}

impl RestartPolicy {
    /// Whether a run that ended by itself is followed by another one, after `restarts` that followed others.
    pub(super) fn follows_exit(self, exit: &Exit, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure { max_retries } => exit.code != 0 && (max_retries == 0 || restarts < max_retries),
        }
    }

    /// Whether a container that had ended before the daemon did is started with the next one. What failed for good has
    /// been judged already.
    pub(super) fn follows_daemon_start(self, state: &ContainerState, manually_stopped: bool) -> bool {
        let ended = matches!(state, ContainerState::Exited(_));
        match self {
            Self::Always => ended,
            Self::UnlessStopped => ended && !manually_stopped,
            Self::No | Self::OnFailure { .. } => false,
        }
    }
}

/// How long to wait before the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The wait after a run of that length.
    pub(super) fn after_run(&mut self, run: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if run < LONG_RUN => (last * 2).min(LONGEST_DELAY),
            _ => FIRST_DELAY,
        };
        self.last = Some(delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn exit(code: i64) -> Exit {
        let at = Timestamp::UNIX_EPOCH;
        Exit { code, oom_killed: false, error: String::new(), started_at: at, finished_at: at }
    }

    #[test]
    fn each_policy_has_its_reasons_to_go_on() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        for (policy, code, restarts, expected) in [
            (No, 1, 0, false),
            (Always, 0, 1000, true),
            (UnlessStopped, 0, 1000, true),
            (OnFailure { max_retries: 0 }, 0, 0, false),
            (OnFailure { max_retries: 0 }, 137, 1000, true),
            (OnFailure { max_retries: 2 }, 1, 1, true),
            (OnFailure { max_retries: 2 }, 1, 2, false),
        ] {
            let follows = policy.follows_exit(&exit(code), restarts);
            assert_eq!(follows, expected, "{policy:?} after {restarts} restarts with {code}");
        }
    }

    #[test]
    fn a_daemon_starts_what_should_run_always_and_what_nobody_stopped() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let (exited, created) =
            (ContainerState::Exited(exit(1)), ContainerState::Created { start_failure: None });
        for (policy, state, manually_stopped, expected) in [
            (Always, &exited, true, true),
            (Always, &created, false, false),
            (UnlessStopped, &exited, true, false),
            (UnlessStopped, &exited, false, true),
            (OnFailure { max_retries: 0 }, &exited, false, false),
            (No, &exited, false, false),
        ] {
            let follows = policy.follows_daemon_start(state, manually_stopped);
            assert_eq!(follows, expected, "{policy:?} {manually_stopped}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute_and_start_anew_after_a_long_run() {
        let mut backoff = Backoff::default();
        let mut delays = || backoff.after_run(Duration::from_secs(1)).as_millis();
        let first: Vec<_> = std::iter::repeat_with(&mut delays).take(11).collect();
        assert_eq!(first, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000]);
        assert_eq!(backoff.after_run(LONG_RUN), FIRST_DELAY);
        assert_eq!(backoff.after_run(Duration::ZERO), FIRST_DELAY * 2);
    }
}
