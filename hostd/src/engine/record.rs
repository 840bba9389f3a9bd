//! A container as it is kept in the database: one JSON record a row.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::Health;
use super::identity::ContainerId;
use super::lodging::Place;
use super::mounts::{BoundSocket, MountPoint};
use super::networks::Endpoint;
use super::records::Record;
use super::spec::ContainerSpec;
use super::state::{ContainerState, Step};
use super::timeline::Timeline;
use crate::image::ImageId;
use crate::logs::RunInLog;

/// Everything about a container that outlives the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) id: ContainerId,
    pub(super) name: String,
    pub(super) created_at: Timestamp,
    pub(super) image_id: ImageId,
    pub(super) spec: Arc<ContainerSpec>,
    /// What it has mounted, fixed when it was made.
    #[serde(default)]
    pub(super) mounts: Arc<[MountPoint]>,
    pub(super) state: ContainerState,
    /// How often its restart policy has started it since somebody did.
    #[serde(default)]
    pub(super) restart_count: u32,
    /// Somebody stopped the last run, and nobody has started one since.
    #[serde(default)]
    pub(super) manually_stopped: bool,
    /// The run is being ended because it is unhealthy, and another one is to follow.
    #[serde(default)]
    pub(super) restart_unhealthy: bool,
    /// Whoever reads its files wants it paused, and nobody else.
    #[serde(default)]
    pub(super) is_paused_for_readers: bool,
    /// As of its last change of status; nothing without a health check.
    #[serde(default)]
    pub(super) health: Option<Health>,
    /// The log's length when the current or last run began.
    pub(super) run_log_start: u64,
    /// What tells the current or last run from others in a log that rotates.
    #[serde(default)]
    pub(super) run_log_id: u64,
    pub(super) timeline: Option<Timeline>,
    /// Of the current run.
    #[serde(default)]
    pub(super) endpoints: Vec<Endpoint>,
    /// The same: what each leads to does not change while it lasts.
    #[serde(default)]
    pub(super) sockets: Vec<BoundSocket>,
    /// Of the current or last run, if it is in another container's machine.
    #[serde(default)]
    pub(super) place: Option<Place>,
}

impl ContainerRecord {
    pub(super) fn run_in_log(&self) -> RunInLog {
        RunInLog { start: self.run_log_start, id: self.run_log_id }
    }

    pub(super) fn begin_run_in_log(&mut self, run: RunInLog) {
        self.run_log_start = run.start;
        self.run_log_id = run.id;
    }

    /// A container that has ended will be started again.
    pub(super) fn await_restart(&mut self) {
        if let Ok(restarting) = self.state.after(Step::AwaitRestart) {
            self.state = restarting;
        }
    }
}

impl Record for ContainerRecord {
    const TABLE: &'static str = "containers";
    const NOUN: &'static str = "container";

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn name(&self) -> &str {
        &self.name
    }
}
