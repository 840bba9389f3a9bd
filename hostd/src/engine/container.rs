//! One container as everybody but its driver sees it: what it is, what state it is in, and how to reach its run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::error::EngineError;
use super::events::Events;
use super::files::Files;
use super::health::Health;
use super::hub::Hub;
use super::identity::ContainerId;
use super::limits::Limits;
use super::lodging::Home;
use super::mounts::MountPoint;
use super::networks::{Endpoint, EndpointSpec};
use super::readers::Readers;
use super::restart::RestartPolicy;
use super::spec::ContainerSpec;
use super::state::{ContainerState, StartFailure};
use super::timeline::Timeline;
use super::wait::WaitResult;
use crate::agent_client::AgentClient;
use crate::image::ImageId;
use crate::logs::LogFiles;
use crate::machine::{MachineKiller, Pace};

/// Immutable parts, and a window on the changing ones. The driver alone changes the state.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) created_at: Timestamp,
    pub(super) image_id: ImageId,
    pub(super) mounts: Arc<[MountPoint]>,
    /// Holds its scratch disk and log.
    pub(super) directory: PathBuf,
    /// Nothing if its output is not kept.
    pub(super) log: Option<Arc<LogFiles>>,
    pub(super) hub: Arc<Hub>,
    pub(super) events: Events,
    pub(super) status: watch::Receiver<Status>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// What the driver publishes at every change.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) name: Arc<str>,
    /// The name that it is about to have, and that nobody else gets.
    pub(super) next_name: Option<Arc<str>>,
    pub(super) spec: Arc<ContainerSpec>,
    pub(super) restart_count: u32,
    /// Nothing without a health check, and before the first start.
    pub(super) health: Option<Health>,
    pub(super) state: ContainerState,
    /// The latest end, in whatever state it is now: who waits sees the last of several changes only.
    pub(super) last_end: Option<WaitResult>,
    /// Only while it runs.
    pub(super) live: Option<Arc<Live>>,
    pub(super) timeline: Option<Timeline>,
    /// What it has of networks while it runs.
    pub(super) endpoints: Arc<[Endpoint]>,
    /// Counts runs that ended, so that one can wait for the next end.
    pub(super) runs_ended: u64,
    /// The container is gone for good.
    pub(super) removed: bool,
}

impl Status {
    /// The only way to another state.
    pub(super) fn enter(&mut self, state: ContainerState) {
        if let Some(end) = WaitResult::of(&state) {
            self.last_end = Some(end);
        }
        self.state = state;
    }
}

/// How to talk to a container that runs.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) agent: Arc<AgentClient>,
    /// For what does not end by signals; the run then ends as one whose machine died.
    pub(super) killer: MachineKiller,
    /// For deadlines of what the guest does.
    pub(super) pace: Pace,
    /// The log's length; its sender goes when the run has ended and its log is complete.
    pub(super) log_grown: watch::Receiver<u64>,
    /// Of files in the machine, which is not ended meanwhile.
    pub(super) readers: Arc<Readers>,
    /// The machine, for others that want to be in it, too.
    pub(super) home: Arc<Home>,
}

/// What only the driver may do. Each is answered once; who no longer listens is not waited for.
#[derive(Debug)]
pub(super) enum Command {
    Start {
        reply: oneshot::Sender<Result<Started, StartError>>,
    },
    /// No restart policy follows the end of this run, which somebody is about to ask for; of a container that waits
    /// to be restarted, this is the end. Answers whether it was.
    StayStopped {
        reply: oneshot::Sender<Outcome>,
    },
    Rename {
        name: String,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
    SetRestartPolicy {
        policy: RestartPolicy,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
    SetPaused {
        paused: bool,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
    /// If it runs, it stands still until as many readers have let it go on.
    StandStill {
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
    GoOn {
        reply: oneshot::Sender<()>,
    },
    /// Limits in place of all that it has. Answers warnings.
    Update {
        limits: Limits,
        reply: oneshot::Sender<Result<Vec<String>, EngineError>>,
    },
    /// To be on a network, named by a client's word.
    Connect {
        network: String,
        endpoint: EndpointSpec,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
    Disconnect {
        network: String,
        force: bool,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
    /// What gives access to its files, whether it runs or not.
    OpenFiles {
        reply: oneshot::Sender<Result<Files, EngineError>>,
    },
    /// Only a container that does not run; with its anonymous volumes, or without.
    Remove {
        volumes: bool,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
}

/// Whether a request changed anything; Docker answers 204 or 304.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Changed,
    AlreadySo,
}

/// What a request to start came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It runs now, and this is where the time went.
    Now(Timeline),
    /// It ran already.
    Already,
}

#[derive(Debug)]
pub(super) enum StartError {
    /// The program could not be started, as a shell would say it.
    Program(StartFailure),
    /// Anything else.
    Engine(EngineError),
}

impl Container {
    /// What stands beside each record of its log.
    pub(super) fn log_attributes(&self) -> BTreeMap<String, String> {
        super::log::attributes(&self.id, &self.name(), self.image_id, &self.spec())
    }

    /// Whether it is made of that image, or has it mounted.
    pub(super) fn has_image(&self, id: ImageId) -> bool {
        self.image_id == id || self.mounts.iter().filter_map(MountPoint::image).any(|image| image.id == id)
    }

    pub(super) fn scratch_path(&self) -> PathBuf {
        self.directory.join("scratch.ext4")
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.status.borrow().name)
    }

    /// It has the name, or is about to have it.
    pub(super) fn holds_name(&self, name: &str) -> bool {
        let status = self.status.borrow();
        *status.name == *name || status.next_name.as_deref() == Some(name)
    }

    pub(super) fn spec(&self) -> Arc<ContainerSpec> {
        Arc::clone(&self.status.borrow().spec)
    }

    pub(super) fn current(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The status once no start is in progress.
    pub(super) async fn settled(&self) -> Status {
        let mut status = self.status.clone();
        let settled =
            status.wait_for(|status| !matches!(status.state, ContainerState::Starting { .. })).await;
        // An error means that the driver is gone with the container; its last word stands.
        settled.map_or_else(|_gone| self.current(), |status| status.clone())
    }

    /// The run, or Docker's refusal.
    pub(super) async fn live(&self) -> Result<Arc<Live>, EngineError> {
        self.live_in(&self.settled().await)
    }

    /// The run that a status tells of, or Docker's refusal.
    pub(super) fn live_in(&self, status: &Status) -> Result<Arc<Live>, EngineError> {
        status.live.clone().ok_or_else(|| match status.state {
            ContainerState::Restarting(_) => self.is_restarting(),
            _ => EngineError::conflict(format!("container {} is not running", self.id)),
        })
    }

    /// Docker's refusal of what needs a process.
    pub(super) fn is_restarting(&self) -> EngineError {
        let message = format!("Container {} is restarting, wait until the container is running", self.id);
        EngineError::conflict(message)
    }

    /// Asks the driver; an error if the container has been removed meanwhile.
    pub(super) async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, EngineError> {
        let gone = || EngineError::not_found(format!("No such container: {}", self.id));
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_closed| gone())?;
        answer.await.map_err(|_dropped| gone())
    }
}
