//! What is known of a container's health, and what one more probe makes of it. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Healthcheck;

/// Probes that are remembered.
const MAX_PROBES: usize = 5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthStatus {
    /// No probe has succeeded yet, and not enough have failed.
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

/// One run of the check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// 0 is healthy; -1 if the command did not run, or not in time.
    pub exit_code: i64,
    /// Its beginning, and why there is no more of it.
    pub output: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub status: HealthStatus,
    /// Failures since the last success.
    pub failing_streak: u32,
    /// Oldest first.
    pub log: VecDeque<Probe>,
}

impl HealthStatus {
    /// Docker's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Health {
    /// Of a run that begins: what was seen of the run before stays in the log.
    pub(in crate::engine) fn of_new_run(before: Option<&Self>) -> Self {
        Self { log: before.map(|before| before.log.clone()).unwrap_or_default(), ..Self::default() }
    }

    /// What does not run is not healthy.
    pub(in crate::engine) fn of_ended_run(self) -> Self {
        Self { status: HealthStatus::Unhealthy, ..self }
    }

    /// Takes a probe into account. Failures in the start period of a run that began at `run_started_at` do not count.
    pub(super) fn take(&mut self, probe: Probe, check: &Healthcheck, run_started_at: Timestamp) {
        let since_start = probe.started_at.duration_since(run_started_at);
        let since_start: Duration = since_start.try_into().unwrap_or_default();
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if self.status != HealthStatus::Starting || check.start_period() <= since_start {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries() {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push_back(probe);
        while self.log.len() > MAX_PROBES {
            self.log.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use HealthStatus::{Healthy, Starting, Unhealthy};

    use super::*;

    fn probe(second: i64, exit_code: i64) -> Probe {
        let at = Timestamp::from_second(second).unwrap();
        Probe { started_at: at, ended_at: at, exit_code, output: String::new() }
    }

    fn statuses(check: &Healthcheck, probes: &[(i64, i64)]) -> Vec<(HealthStatus, u32)> {
        let mut health = Health::default();
        let after = probes.iter().map(|(second, code)| {
            health.take(probe(*second, *code), check, Timestamp::UNIX_EPOCH);
            (health.status, health.failing_streak)
        });
        after.collect()
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy_and_one_success_is_healthy() {
        let check = Healthcheck { retries: 2, ..Healthcheck::default() };
        let seen = statuses(&check, &[(1, 1), (2, 0), (3, 1), (4, -1), (5, 1), (6, 0)]);
        let expected =
            [(Starting, 1), (Healthy, 0), (Healthy, 1), (Unhealthy, 2), (Unhealthy, 3), (Healthy, 0)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn failures_in_the_start_period_count_only_after_a_success() {
        let check = Healthcheck { retries: 1, start_period_ns: 10_000_000_000, ..Healthcheck::default() };
        assert_eq!(
            statuses(&check, &[(1, 1), (9, 1), (10, 1)]),
            [(Starting, 0), (Starting, 0), (Unhealthy, 1)]
        );
        assert_eq!(statuses(&check, &[(1, 0), (2, 1)]), [(Healthy, 0), (Unhealthy, 1)]);
    }

    #[test]
    fn five_probes_are_remembered() {
        let mut health = Health::default();
        for second in 0..9 {
            health.take(probe(second, 0), &Healthcheck::default(), Timestamp::UNIX_EPOCH);
        }
        let seconds: Vec<i64> = health.log.iter().map(|probe| probe.started_at.as_second()).collect();
        assert_eq!(seconds, [4, 5, 6, 7, 8]);
        assert_eq!(Health::of_new_run(Some(&health)).log.len(), 5);
    }
}
