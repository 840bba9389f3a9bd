//! Runs that follow others: what restart policies and failing health checks ask for.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::engine::container::{Outcome, StartError};
use crate::engine::restart::RestartPolicy;
use crate::engine::state::{ContainerState, Exit, Step};

impl Driver {
    /// The wait is over: the next run of a container that its policy restarts.
    pub(super) async fn restart(&mut self) {
        self.restart_at = None;
        match self.begin_run().await {
            Ok(_started) => {}
            // No machine could be made for it: the host may have room again later.
            Err(StartError::Engine(error)) => {
                tracing::warn!(container = %self.container.id, error = error.message, "cannot restart a container");
                if let ContainerState::Exited(exit) = self.record.state.clone() {
                    self.follow(&exit, Duration::ZERO);
                    self.commit(self.record.state.clone()).await;
                    self.publish(self.record.state.clone());
                }
            }
            // As Docker: a program that cannot be started is not tried again.
            Err(StartError::Program(failure)) => {
                let reason = failure.message;
                tracing::warn!(container = %self.container.id, reason, "a container is not restarted any more");
            }
        }
    }

    /// Lets a restart follow that end, if the container's policy or its health asks for one.
    pub(super) fn follow(&mut self, exit: &Exit, run: Duration) {
        let wanted = self.record.restart_unhealthy
            || self.record.spec.restart.follows_exit(exit, self.record.restart_count);
        self.record.restart_unhealthy = false;
        if !wanted || self.record.manually_stopped {
            return;
        }
        self.record.restart_count += 1;
        self.record.await_restart();
        self.restart_at = Some(Instant::now() + self.backoff.after_run(run));
    }

    /// Says that no run is to follow this one. Kept for the next daemon, where it matters to it.
    pub(super) async fn stay_stopped(&mut self) -> Outcome {
        self.record.manually_stopped = true;
        self.record.restart_unhealthy = false;
        self.restart_at = None;
        let state = match self.record.state.after(Step::GiveUpRestart) {
            Ok(exited) => exited,
            Err(_not_waiting) if self.record.spec.restart == RestartPolicy::No => return Outcome::AlreadySo,
            Err(_not_waiting) => {
                self.commit(self.record.state.clone()).await;
                return Outcome::AlreadySo;
            }
        };
        self.commit(state.clone()).await;
        self.publish(state);
        Outcome::Changed
    }
}
