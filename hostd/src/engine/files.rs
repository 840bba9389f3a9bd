//! Access to a container's files through its machine, whether the container runs or not.
//!
//! Of a container that does not run, the machine is booted for the files alone: the disks are mounted and nothing is
//! started. Whoever reads holds [`Files`]; a machine in which nothing runs (any more) ends when the last of them is
//! gone, and a start or a removal of the container waits for that end as for the end of any run.

use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent;
use tokio::time::timeout;

use super::Shared;
use super::boot::{boot_machine, prepare_disks};
use super::container::{Container, Live};
use super::error::EngineError;
use super::identity::ContainerId;
use super::launch::{IMAGE_DISK, SCRATCH_DISK};
use super::mounts::MountedVolumes;
use super::networks::Joined;
use super::readers::{Readers, Reading};
use crate::agent_client::{AgentClient, CallError, within};
use crate::machine::{Machine, Pace};

/// A copy asks first what is there, and then for it: one machine serves both.
const LINGER: Duration = Duration::from_secs(2);
/// How long the agent may take to write a container's file system back when its machine ends.
const SYNC_DEADLINE: Duration = Duration::from_secs(60);
/// The same for a machine that a daemon before this one left, for which the new one's start waits.
const LEFT_OVER_DEADLINE: Duration = Duration::from_secs(20);
/// Mounting two disks, of which one may have a journal to replay, on a host that many others load.
const MOUNT_DEADLINE: Duration = Duration::from_secs(120);

/// The machine behind it stays for as long as this does.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) agent: Arc<AgentClient>,
    /// For deadlines of what the guest does.
    pub(super) pace: Pace,
    _reading: Reading,
}

/// Where further readers of a machine come from; it does not keep the machine.
#[derive(Clone, Debug)]
pub(super) struct FilesOfMachine {
    agent: Arc<AgentClient>,
    pace: Pace,
    readers: Arc<Readers>,
}

impl FilesOfMachine {
    /// Nothing if the machine ends already.
    pub(super) fn open(&self) -> Option<Files> {
        let reading = self.readers.begin()?;
        Some(Files { agent: Arc::clone(&self.agent), pace: self.pace, _reading: reading })
    }

    /// Somebody waits for the machine's end.
    pub(super) fn hurry(&self) {
        self.readers.hurry();
    }
}

impl Live {
    pub(super) fn files(&self) -> FilesOfMachine {
        let (agent, readers) = (Arc::clone(&self.agent), Arc::clone(&self.readers));
        FilesOfMachine { agent, pace: self.pace, readers }
    }
}

/// A machine in which no program of its container runs.
pub(super) struct IdleMachine {
    machine: Machine,
    agent: Arc<AgentClient>,
    readers: Arc<Readers>,
    /// How long it stays for further readers.
    linger: Duration,
    joined: Option<Joined>,
    /// In use until it ends.
    _volumes: Arc<MountedVolumes>,
}

/// What becomes of writes that the guest has not passed on yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    Keep,
    /// For a container that is removed.
    Discard,
}

impl IdleMachine {
    /// What is left of a run that has ended.
    pub(super) fn after_run(
        machine: Machine,
        live: &Live,
        joined: Option<Joined>,
        volumes: Arc<MountedVolumes>,
    ) -> Self {
        if let Some(joined) = &joined {
            joined.will_leave();
        }
        let (agent, readers) = (Arc::clone(&live.agent), Arc::clone(&live.readers));
        Self { machine, agent, readers, linger: Duration::ZERO, joined, _volumes: volumes }
    }

    /// Boots one with the container's disks mounted.
    pub(super) async fn boot(shared: &Arc<Shared>, container: &Arc<Container>) -> Result<Self, EngineError> {
        let failed = |error: &dyn std::error::Error| {
            EngineError::internal(&format!("cannot open the files of container {}", container.id), error)
        };
        let _turn = shared.boots.acquire().await.map_err(|error| failed(&error))?;
        let (task_shared, task_container) = (Arc::clone(shared), Arc::clone(container));
        let disks = tokio::task::spawn_blocking(move || prepare_disks(&task_shared, &task_container)).await;
        let disks = disks.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let (machine, _ready) =
            boot_machine(shared, container, disks, &[], None).await.map_err(|error| failed(&error))?;
        let deadline = machine.pace().deadline(MOUNT_DEADLINE);
        match within(deadline, "its disks to be mounted", mount(&machine, container)).await {
            Ok(agent) => Ok(Self {
                machine,
                agent: Arc::new(agent),
                readers: Readers::new(),
                linger: LINGER,
                joined: None,
                _volumes: Arc::default(),
            }),
            Err(error) => {
                let failure = failed(&error);
                machine.end().await;
                Err(failure)
            }
        }
    }

    pub(super) fn files(&self) -> FilesOfMachine {
        let (agent, readers) = (Arc::clone(&self.agent), Arc::clone(&self.readers));
        FilesOfMachine { agent, pace: self.machine.pace(), readers }
    }

    /// Ends it once nobody reads its files any more.
    pub(super) async fn end(self, unwritten: Unwritten) {
        self.readers.close(self.linger).await;
        if unwritten == Unwritten::Keep && timeout(SYNC_DEADLINE, self.agent.shut_down()).await.is_err() {
            tracing::warn!("a machine's agent did not write its file systems back in time");
        }
        self.machine.end().await;
        if let Some(joined) = self.joined {
            joined.leave().await;
        }
    }
}

impl Shared {
    /// Ends the machine of a container that does not run, which an earlier daemon was about to end: what was written in it
    /// is the container's.
    pub(super) async fn end_left_over(self: &Arc<Self>, id: &ContainerId) {
        if let Some(machine) = self.machines.find(id.machine_id()).await {
            let write_back = async { AgentClient::connect(&machine.vsock_path()).await?.shut_down().await };
            let deadline = machine.pace().deadline(LEFT_OVER_DEADLINE);
            let written_back = within(deadline, "its file systems to be written back", write_back).await;
            if let Err(error) = written_back {
                tracing::warn!(container = %id, %error, "a machine that was ending may have lost its last writes");
            }
            machine.end().await;
        }
        self.clear_machine(id).await;
    }
}

async fn mount(machine: &Machine, container: &Container) -> Result<AgentClient, CallError> {
    let agent = AgentClient::connect(&machine.vsock_path()).await?;
    agent.configure().await?;
    let (image_disk, scratch_disk) = (IMAGE_DISK.into(), SCRATCH_DISK.into());
    let request = agent::MountContainer { container_id: container.id.to_string(), image_disk, scratch_disk };
    agent.mount_container(request).await?;
    Ok(agent)
}
