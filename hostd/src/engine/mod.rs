//! The engine: what a container host does, without any client's dialect.
//!
//! Read in this order: what a container is ([`spec`]) and how it lives ([`state`]); the task that owns one
//! ([`driver`]) and one run of it ([`run`]); then the use cases, one file each. Nothing here names an HTTP type.

// What a container is.
mod capabilities;
mod error;
mod identity;
mod limits;
mod security;
mod signal;
mod spec;
mod state;
mod timeline;
mod user_namespace;
// How one lives.
mod boot;
mod confinement;
mod connection;
mod container;
mod driver;
mod events;
mod files;
mod health;
mod hub;
mod launch;
mod lodging;
mod log;
mod mounts;
mod names;
mod outgoing;
mod readers;
mod record;
mod records;
mod reserved_names;
mod restart;
mod run;
mod scratch;
mod share_watches;
mod sockets;
mod stdio;
// What can be asked for.
mod attach;
mod change;
mod changes;
mod commit;
mod copy;
mod create;
mod exec;
mod export;
mod images;
mod networks;
mod pause;
mod recover;
mod remove;
mod statistics;
mod stop;
mod update;
mod usage;
mod view;
mod volumes;
mod wait;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

pub use attach::{AttachOptions, DetachNotice, Logs};
pub use capabilities::{CapabilityName, UnknownCapability};
pub use changes::{Change, ChangeKind};
pub use commit::CommitRequest;
pub use container::{Outcome, Started};
pub use copy::{ContainerPath, CopyInto, PathStat};
pub use create::Created;
pub use error::{EngineError, ErrorKind};
pub use events::{Actor, Event, EventKind, Events, Heard, Listener};
pub use exec::{ExecSpec, ExecStart, ExecView};
pub use health::{Health, HealthStatus, Healthcheck, Probe, RESTART_UNHEALTHY_LABEL};
pub use hub::{Attachment, Input, Output};
pub use identity::ContainerId;
pub use images::{
    Distribution, LayerState, LayerStep, PrunedImages, PullRequest, PullStep, PullTarget, PushRequest,
    PushStep, Steps,
};
pub use launch::{DEFAULT_SHM_BYTES, MASKED_PATHS, READONLY_PATHS};
pub use limits::{DeviceThrottle, DeviceWeight, Limits, Throttled, highest};
pub use mounts::{
    HostSource, IfMissing, ImageSource, MountPoint, MountRequest, MountRequests, MountSource, MountsBelow,
    PointSource, Propagation, VolumePoint, VolumeSource, VolumesFrom, Written,
};
pub(crate) use networks::check_endpoint_options;
pub use networks::{
    CreatedNetwork, DefaultBridge, DnsSpec, Endpoint, EndpointNames, EndpointSpec, Link, Network,
    NetworkBackend, NetworkDriver, NetworkId, NetworkMode, NetworkPolicy, NetworkRequest, NetworkSpec,
    NetworkView, PortBinding, PublishedPort, Reach, StationView, Subnet, SubnetRequest,
};
pub use outgoing::OutgoingArchive;
pub use remove::{PrunedContainers, RemoveOptions};
pub use restart::RestartPolicy;
pub use scratch::SCRATCH_DISK_BYTES;
pub use security::{
    Device, DeviceRule, InvalidDeviceRule, Ipc, Namespace, Namespaces, Security, Ulimit, is_device_access,
};
pub use signal::{InvalidSignal, Signal};
pub use spec::{AutoRemove, ContainerSpec, Stdio, TerminalSize, TmpfsMount};
pub use state::{ContainerState, Exit, Run, StartFailure};
pub use statistics::{DiskStatistics, InterfaceStatistics, ProcessRow, ProcessTable, Statistics};
pub use stop::StopOptions;
pub use timeline::Timeline;
pub use usage::{ContainerUsage, Usage};
pub use user_namespace::{IdRange, UserNamespace};
pub use view::{ContainerView, EngineInfo};
pub use volumes::{Backing, PrunedVolumes, Volume, VolumeName, VolumeRequest, VolumeUsage, VolumeView};
pub use wait::{Wait, WaitCondition, WaitResult};

pub use crate::logs::{LogDriver, LogQuery, LogRecord, LogSettings, OutputStream, Rotation};
pub use crate::machine::{JailSettings, MachineSettings, Pace, Profile, UserRange};
pub use crate::network::firewall::Protocol;

use crate::database::Database;
use crate::image::ImageStore;
use crate::logs::LogFiles;
use crate::machine::{MachineSize, Machines};
use crate::registry::Registries;
use container::{Command, Container, Status};
use exec::Exec;
use hub::Hub;
use networks::Networks;
use record::ContainerRecord;
use records::Records;
use reserved_names::ReservedNames;
use scratch::ScratchTemplates;
use volumes::Volumes;

/// Machines that boot at the same time, per CPU of the host: more only slow each other down.
const BOOTS_PER_CPU: usize = 2;

/// How this daemon's containers are run.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub machine: MachineSettings,
    /// Memory of a machine whose container has no limit, or a small one.
    pub machine_memory_mib: u32,
    pub machine_vcpus: u8,
    /// The size of a container's writable disk; it takes space only as it is written.
    pub scratch_disk_bytes: u64,
    /// Of containers that do not stay out; `None` is their machines'.
    pub user_namespace: Option<UserNamespace>,
    pub networks: NetworkPolicy,
}

/// A container host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What the containers' drivers have in common.
#[derive(Debug)]
struct Shared {
    settings: EngineSettings,
    images: ImageStore,
    registries: Registries,
    pushes: images::PushTurns,
    /// Layers that pulls wait for.
    flights: images::Flights,
    records: Records<ContainerRecord>,
    networks: Arc<Networks>,
    volumes: Arc<Volumes>,
    machines: Machines,
    scratch: ScratchTemplates,
    /// Turns to boot a machine.
    boots: Semaphore,
    containers: RwLock<HashMap<ContainerId, Arc<Container>>>,
    /// Changed only by who may change `containers`, but for what is given back.
    reserved_names: ReservedNames,
    /// Read while a container is made of an image, written while one is removed.
    image_removal: Arc<tokio::sync::RwLock<()>>,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
    events: Events,
    /// These end machines that nobody runs in any more and delete what removed containers left, after the reply.
    endings: TaskTracker,
}

impl Engine {
    /// Opens the host's state, repairs what a crash left, and takes over containers that run.
    ///
    /// # Errors
    /// State that cannot be read, or a host that lacks what machines need; the message says what to do.
    pub async fn open(
        settings: EngineSettings,
        images: ImageStore,
        registries: Registries,
        database: Database,
    ) -> Result<Self, EngineError> {
        let opening =
            tokio::task::spawn_blocking(move || Shared::open(settings, images, registries, database));
        let shared =
            opening.await.map_err(|error| EngineError::internal("cannot open the engine", &error))??;
        let engine = Self { shared: Arc::new(shared) };
        engine.recover().await?;
        Ok(engine)
    }

    #[must_use]
    pub fn images(&self) -> &ImageStore {
        &self.shared.images
    }

    #[must_use]
    pub fn registries(&self) -> &Registries {
        &self.shared.registries
    }

    /// The container that a client's word means: an id, its beginning, or a name.
    fn find(&self, word: &str) -> Result<Arc<Container>, EngineError> {
        self.shared.find(word)
    }

    fn find_exec(&self, id: &str) -> Result<Arc<Exec>, EngineError> {
        let mut execs = self.shared.execs();
        execs.retain(|_id, exec| !exec.is_forgotten());
        execs.get(id).cloned().ok_or_else(|| EngineError::not_found(format!("No such exec instance: {id}")))
    }
}

impl Shared {
    fn open(
        settings: EngineSettings,
        images: ImageStore,
        registries: Registries,
        database: Database,
    ) -> Result<Self, EngineError> {
        let machines = Machines::open(&settings.exec_root, settings.machine.clone())
            .map_err(|error| EngineError::new(ErrorKind::Internal, error::chain(&error)))?;
        let scratch = ScratchTemplates::open(&settings.data_root, settings.scratch_disk_bytes)?;
        let containers = settings.data_root.join("containers");
        std::fs::create_dir_all(&containers)
            .map_err(|error| EngineError::internal("cannot make the containers' directory", &error))?;
        let events = Events::default();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            images,
            flights: images::Flights::new(registries.settings().max_concurrent_downloads),
            registries,
            pushes: images::PushTurns::default(),
            networks: Arc::new(Networks::new(
                settings.networks.clone(),
                host_name(&settings.exec_root),
                database.clone(),
            )),
            volumes: Arc::new(Volumes::new(&settings.data_root, events.clone(), database.clone())),
            records: Records::new(database),
            machines,
            scratch,
            boots: Semaphore::new(cpus * BOOTS_PER_CPU),
            containers: RwLock::default(),
            reserved_names: ReservedNames::default(),
            image_removal: Arc::default(),
            execs: Mutex::default(),
            events,
            endings: TaskTracker::new(),
            settings,
        })
    }

    /// A container's public face for its driver to publish to.
    fn container(
        &self,
        record: &ContainerRecord,
        log: Option<Arc<LogFiles>>,
        status: watch::Receiver<Status>,
        commands: mpsc::Sender<Command>,
    ) -> Container {
        Container {
            id: record.id.clone(),
            created_at: record.created_at,
            image_id: record.image_id,
            mounts: Arc::clone(&record.mounts),
            directory: self.container_directory(&record.id),
            log,
            hub: Arc::new(Hub::new(record.spec.stdio.terminal)),
            events: self.events.clone(),
            status,
            commands,
        }
    }

    fn container_directory(&self, id: &ContainerId) -> PathBuf {
        self.settings.data_root.join("containers").join(id.as_str())
    }

    /// The container's limit is its own; what the machine needs comes on top.
    fn machine_size(&self, limits: &Limits) -> MachineSize {
        let memory_mib = limits.machine_memory_mib().max(self.settings.machine_memory_mib);
        let vcpus = u8::try_from(limits.cpus()).unwrap_or(u8::MAX).max(self.settings.machine_vcpus);
        MachineSize { memory_mib, vcpus }
    }

    /// As [`Engine::find`].
    fn find(&self, word: &str) -> Result<Arc<Container>, EngineError> {
        let containers = self.containers();
        let names: Vec<_> = containers.iter().map(|(id, container)| (id, container.name())).collect();
        let id = identity::find(word, names.iter().map(|(id, name)| (*id, &**name)))?;
        Ok(Arc::clone(&containers[&id]))
    }

    fn containers(&self) -> RwLockReadGuard<'_, HashMap<ContainerId, Arc<Container>>> {
        self.containers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn containers_mut(&self) -> RwLockWriteGuard<'_, HashMap<ContainerId, Arc<Container>>> {
        self.containers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn execs(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container that is gone for good.
    fn forget(&self, id: &ContainerId) {
        self.containers_mut().remove(id);
        self.execs().retain(|_id, exec| exec.container.id != *id);
    }
}

/// What this daemon's links and rules are called on a host that others share: the same as long as its exec root is.
fn host_name(exec_root: &std::path::Path) -> String {
    format!("{:08x}", crc32fast::hash(exec_root.as_os_str().as_encoded_bytes()))
}
