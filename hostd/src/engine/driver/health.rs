//! A run's health: begun with it, shown as it changes, and the end of a run that is to be healthy again.

use std::sync::Arc;

use super::Driver;
use crate::engine::health::{Checked, Health, HealthStatus, Monitor, RESTART_UNHEALTHY_LABEL};
use crate::engine::names::linked;
use crate::engine::run::ActiveRun;
use crate::engine::spec::AutoRemove;
use crate::engine::stop::end_unhealthy;

impl Driver {
    pub(super) fn begin_monitoring(&mut self, active: &ActiveRun) {
        self.monitor(active, Health::of_new_run(self.record.health.as_ref()));
    }

    /// Of a run that an earlier daemon started.
    pub(super) fn go_on_monitoring(&mut self, active: &ActiveRun) {
        self.monitor(active, self.record.health.clone().unwrap_or_default());
        self.show(|_status| {});
        if self.record.restart_unhealthy {
            self.end_unhealthy_run();
        }
    }

    fn monitor(&mut self, active: &ActiveRun, health: Health) {
        let linked = linked::variables(&self.shared, &self.container).unwrap_or_default();
        self.monitor = Monitor::start(&self.container, &active.live(), active.run(), health.clone(), linked);
        self.record.health = self.monitor.is_some().then_some(health);
    }

    pub(super) fn end_monitoring(&mut self) {
        self.monitor = None;
        self.record.health = self.record.health.take().map(Health::of_ended_run);
    }

    pub(super) async fn health_checked(&mut self, Checked { health, changed }: Checked) {
        let status = health.status;
        self.record.health = Some(health);
        if !changed {
            return self.show(|_status| {});
        }
        let ends = status == HealthStatus::Unhealthy && self.restarts_unhealthy();
        self.record.restart_unhealthy |= ends;
        // Kept only now: probes come every few seconds, in each of many containers.
        self.commit(self.record.state.clone()).await;
        self.show(|_status| {});
        self.container.publish(format!("health_status: {}", status.name()), []);
        if ends {
            self.end_unhealthy_run();
        }
    }

    fn restarts_unhealthy(&self) -> bool {
        let spec = &self.record.spec;
        let asked = spec.labels.get(RESTART_UNHEALTHY_LABEL).is_some_and(|value| value == "true");
        asked && spec.auto_remove == AutoRemove::Keep && !self.record.manually_stopped
    }

    /// Takes as long as a stop: the driver goes on meanwhile, and hears of the end as of any other.
    fn end_unhealthy_run(&self) {
        let container = Arc::clone(&self.container);
        tokio::spawn(async move {
            if let Err(error) = end_unhealthy(&container).await {
                tracing::error!(container = %container.id, error = error.message, "cannot end an unhealthy run");
            }
        });
    }
}
