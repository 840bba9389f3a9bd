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
use super::boot::{boot_machine, prepare_all_disks};
use super::container::{Container, Live};
use super::error::EngineError;
use super::identity::ContainerId;
use super::launch::{IMAGE_DISK, SCRATCH_DISK};
use super::mounts::{BoundSocket, MachineNames, MountedVolumes, Sources, agent_mounts, open_sources};
use super::networks::Joined;
use super::readers::{Readers, Reading};
use super::user_namespace::UserNamespace;
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
    /// Why what the container has mounted is not among them, if so.
    pub(super) without_mounts: Option<Arc<str>>,
    _reading: Reading,
}

/// Where further readers of a machine come from; it does not keep the machine.
#[derive(Clone, Debug)]
pub(super) struct FilesOfMachine {
    agent: Arc<AgentClient>,
    pace: Pace,
    without_mounts: Option<Arc<str>>,
    readers: Arc<Readers>,
}

impl FilesOfMachine {
    /// Nothing if the machine ends already.
    pub(super) fn open(&self) -> Option<Files> {
        let reading = self.readers.begin()?;
        let without_mounts = self.without_mounts.clone();
        Some(Files { agent: Arc::clone(&self.agent), pace: self.pace, without_mounts, _reading: reading })
    }

    /// Somebody waits for the machine's end.
    pub(super) fn hurry(&self) {
        self.readers.hurry();
    }
}

impl Live {
    pub(super) fn files(&self) -> FilesOfMachine {
        let (agent, readers) = (Arc::clone(&self.agent), Arc::clone(&self.readers));
        FilesOfMachine { agent, pace: self.pace, without_mounts: None, readers }
    }
}

/// A machine in which no program of its container runs.
pub(super) struct IdleMachine {
    machine: Machine,
    agent: Arc<AgentClient>,
    readers: Arc<Readers>,
    /// How long it stays for further readers.
    linger: Duration,
    without_mounts: Option<Arc<str>>,
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
        Self {
            machine,
            agent,
            readers,
            linger: Duration::ZERO,
            without_mounts: None,
            joined,
            _volumes: volumes,
        }
    }

    /// Boots one with the container's disks mounted, and what it has mounted as far as that can be had.
    pub(super) async fn boot(shared: &Arc<Shared>, container: &Arc<Container>) -> Result<Self, EngineError> {
        let failed = |error: &dyn std::error::Error| {
            EngineError::internal(&format!("cannot open the files of container {}", container.id), error)
        };
        let _turn = shared.boots.acquire().await.map_err(|error| failed(&error))?;
        let (volumes, Sources { shares, sockets }, without_mounts) = mounted(shared, container).await;
        let (task_shared, task_container) = (Arc::clone(shared), Arc::clone(container));
        let disks =
            tokio::task::spawn_blocking(move || prepare_all_disks(&task_shared, &task_container)).await;
        let (disks, images) = disks.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let shares = (!shares.is_empty()).then_some(shares);
        let (machine, _ready) =
            boot_machine(shared, container, disks, &[], shares).await.map_err(|error| failed(&error))?;
        let deadline = machine.pace().deadline(MOUNT_DEADLINE);
        let names = MachineNames { share_prefix: String::new(), images };
        let request = mount_request(container, &sockets, &names, without_mounts.is_none());
        match within(deadline, "its disks to be mounted", mount(&machine, request)).await {
            Ok(agent) => Ok(Self {
                machine,
                agent: Arc::new(agent),
                readers: Readers::new(),
                linger: LINGER,
                without_mounts,
                joined: None,
                _volumes: Arc::new(volumes),
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
        let without_mounts = self.without_mounts.clone();
        FilesOfMachine { agent, pace: self.machine.pace(), without_mounts, readers }
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

/// Volumes and shares of a container that does not run; none, and why, if not all of them can be had: its own files can
/// be read all the same.
async fn mounted(shared: &Shared, container: &Arc<Container>) -> (MountedVolumes, Sources, Option<Arc<str>>) {
    let without = |reason: &str| (MountedVolumes::default(), Sources::default(), Some(Arc::from(reason)));
    if container.mounts.is_empty() {
        return (MountedVolumes::default(), Sources::default(), None);
    }
    let user_namespace = UserNamespace::of(shared.settings.user_namespace.as_ref(), &container.spec());
    if !matches!(user_namespace, Ok(None)) {
        return without("its users are others outside of it");
    }
    let volumes = match shared.mount_volumes(&container.mounts).await {
        Ok(volumes) => Arc::new(volumes),
        Err(error) => return without(&error.message),
    };
    let (of, opening) = (Arc::clone(container), Arc::clone(&volumes));
    let opened = tokio::task::spawn_blocking(move || open_sources(&of.mounts, &opening, "")).await;
    match (opened, Arc::try_unwrap(volumes)) {
        (Ok(Ok(sources)), Ok(volumes)) => (volumes, sources, None),
        (Ok(Err(error)), _) => without(&error.message),
        (Ok(Ok(_)) | Err(_), _) => without("they cannot be opened"),
    }
}

fn mount_request(
    container: &Container,
    sockets: &[BoundSocket],
    names: &MachineNames,
    with_mounts: bool,
) -> agent::MountContainer {
    // File systems in memory are gone with who wrote to them, and nobody connects to a socket.
    let kept = |mount: &agent::Mount| with_mounts && matches!(mount.kind.as_str(), "share" | "disk");
    let mounts = agent_mounts(&container.spec(), &container.mounts, sockets, names).into_iter().filter(kept);
    agent::MountContainer {
        container_id: container.id.to_string(),
        image_disk: IMAGE_DISK.into(),
        scratch_disk: SCRATCH_DISK.into(),
        lower_part: names.images.own,
        mounts: mounts.collect(),
    }
}

async fn mount(machine: &Machine, request: agent::MountContainer) -> Result<AgentClient, CallError> {
    let agent = AgentClient::connect(&machine.vsock_path()).await?;
    agent.configure().await?;
    agent.mount_container(request).await?;
    Ok(agent)
}
