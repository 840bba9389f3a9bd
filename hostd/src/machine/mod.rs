//! Machines as the engine sees them: started, found again after a restart of the daemon, connected to, ended.
//!
//! A machine is a `berth-vmm` process in a session of its own with a state directory below the exec root; it outlives
//! this daemon. Everything the daemon knows of one comes from that directory and its sockets. What runs inside is the
//! agent's business ([`crate::agent_client`]).

mod cards;
mod control;
mod dial;
mod gateway;
mod jail;
mod pace;
mod process;
mod ready;
mod requests;
mod shares;
mod spare_disk;
mod spares;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_protocol::agent::Ready;
use berth_vmm::config::{
    Accelerator, BalloonConfig, CpuidLeaf, DiskAccess, DiskConfig, Extent, MachineConfig, NetworkCardConfig,
    files,
};
use berth_vmm::control::{MachineExit, Reply, Request};
use tokio::time::timeout;

use control::ControlClient;
pub(crate) use dial::connect;
pub(crate) use gateway::{Forward, GatewayError, GatewayRequest, GatewayWatch};
pub(crate) use jail::HostShare;
use jail::{Cell, Jails};
pub use jail::{JailSettings, Profile, UserRange};
pub use pace::Pace;
pub(crate) use process::MachineKiller;
use process::VmmProcess;
use ready::ReadyListener;
pub(crate) use shares::{
    NewShare, ShareAccess, ShareWatcher, SharedBelow, Shares, SharesError, on_own_thread, open_source,
};
pub(crate) use spare_disk::{BoundPart, MAX_FURTHER_PARTS, ROOMS, SpareDisk, further_number};

/// At [`Pace::Ordinary`]. A guest that does nothing else boots in under a second under tcg; a host that starts dozens at
/// once on two cores, or nests virtualization, may need a hundred times that. On expiry the message carries the
/// console's last lines.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);
/// `berth-vmm` listens before it does anything slow.
const LISTEN_DEADLINE: Duration = Duration::from_secs(60);
/// How long `berth-vmm` may take to end in good order before it is killed.
const END_DEADLINE: Duration = Duration::from_secs(10);
const CONSOLE_LIMIT_BYTES: u64 = 1 << 20;
/// A machine's free memory is the host's again, without anybody asking for it.
const BALLOON: BalloonConfig = BalloonConfig { target_mib: 0, deflate_on_oom: true, report_free_pages: true };
/// How much of the console's end is looked at, and how much of it goes into an error.
const CONSOLE_TAIL_BYTES: usize = 8192;
const CONSOLE_TAIL_LINES: usize = 12;
/// Every machine has a vsock device of its own, so all guests may have the same context id.
const GUEST_CID: u32 = 3;
/// `sockaddr_un.sun_path` without its final NUL (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// What every machine of this daemon is started with.
#[derive(Clone, Debug)]
pub struct MachineSettings {
    pub accelerator: Accelerator,
    pub pace: Pace,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// The `berth-vmm` program.
    pub vmm: PathBuf,
    pub qemu: PathBuf,
    /// The program that serves shares; machines without shares do without it.
    pub virtiofsd: PathBuf,
    /// The network stack of machines where the daemon may make no interfaces.
    pub passt: PathBuf,
    /// `None` for debugging only: machines then have all the daemon's rights.
    pub jail: Option<JailSettings>,
}

/// What one machine is started with.
#[derive(Clone, Debug)]
pub(crate) struct MachineSize {
    pub(crate) memory_mib: u32,
    pub(crate) vcpus: u8,
}

/// What a machine is made of beside processors and memory.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) disks: Vec<Disk>,
    /// In guest order, the first is `eth0`.
    pub(crate) network_cards: Vec<NetworkCardConfig>,
    /// Further cards, bound to nothing, as far as the machine has places for them.
    pub(crate) spare_cards: usize,
    /// The network stack behind the first card, which has no interface then.
    pub(crate) gateway: Option<GatewayRequest>,
    /// Those that it has from the beginning; `None` if it can never have any.
    pub(crate) shares: Option<Vec<NewShare>>,
    /// It has room for the disks of further containers, if there is a place left for the device.
    pub(crate) spare_disk: bool,
}

/// A disk in guest order, the first is `vda`.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) access: DiskAccess,
    pub(crate) extents: Vec<Extent>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("machine {id}: cannot {step}")]
    Io { id: String, step: &'static str, source: io::Error },
    #[error("machine {id}: no answer within {} s while waiting for {waited_for}{evidence}", .deadline.as_secs())]
    Deadline { id: String, waited_for: &'static str, deadline: Duration, evidence: String },
    #[error("machine {id} ended: {reason}")]
    Ended { id: String, reason: String },
    #[error("machine {id}: {message}")]
    Refused { id: String, message: String },
    #[error("machine {id}: {cause}")]
    Gateway { id: String, cause: GatewayError },
    #[error("machine {id}: {cause}")]
    Shares { id: String, cause: SharesError },
    #[error("the path {} is too long for a unix socket (at most {MAX_SOCKET_PATH_BYTES} bytes): choose a shorter --exec-root", .0.display())]
    PathTooLong(PathBuf),
}

/// Where machines live and what they are made with.
#[derive(Debug)]
pub(crate) struct Machines {
    root: PathBuf,
    settings: MachineSettings,
    jails: Arc<Jails>,
    /// What KVM says of the host's processors, which it takes too long over to be asked at each start.
    host_cpuid: Vec<CpuidLeaf>,
}

impl Machines {
    pub(crate) fn open(exec_root: &Path, settings: MachineSettings) -> Result<Self, MachineError> {
        let root = exec_root.join("machines");
        let longest =
            root.join("0123456789abcdef").join(files::ROOT).join(format!("{}_{}", files::VSOCK, u32::MAX));
        if longest.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            return Err(MachineError::PathTooLong(root));
        }
        let error =
            |source| MachineError::Io { id: String::new(), step: "make the machines' directory", source };
        std::fs::create_dir_all(&root).map_err(error)?;
        let jails = Arc::new(Jails::open(settings.jail, settings.accelerator, &root));
        let host_cpuid = match settings.accelerator {
            Accelerator::Kvm => process::host_cpuid(&settings.vmm),
            Accelerator::Tcg => vec![],
        };
        Ok(Self { root, settings, jails, host_cpuid })
    }

    pub(crate) fn jails(&self) -> &Jails {
        &self.jails
    }

    /// The ids of all machines that have a state directory, alive or dead.
    pub(crate) fn ids(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.root)?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.collect())
    }

    fn directory(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Starts a machine and returns once its control socket answers; the guest boots meanwhile
    /// ([`StartingMachine::ready`]).
    pub(crate) async fn start(
        &self,
        id: &str,
        size: MachineSize,
        share: &HostShare,
        devices: Devices,
    ) -> Result<StartingMachine, MachineError> {
        let directory = self.directory(id);
        let mut devices = devices;
        spares::add(self.settings.accelerator, &mut devices);
        let Devices { disks, network_cards, gateway, shares, spare_cards: _, spare_disk } = devices;
        let mut config = MachineConfig { network_cards, ..self.config(id, &size, disks) };
        if let (Some(request), Some(card)) = (&gateway, config.network_cards.first_mut()) {
            card.gateway = Some(gateway::connection(&directory, request));
        }
        if shares.is_some() {
            config.shares.push(shares::device(&directory));
            config.command_line = shares::kernel_parameters();
        }
        if spare_disk && spare_disk::fits(&config) {
            config.disks.push(spare_disk::config());
        }
        self.prepare_directory(id, &directory, &config)?;
        let cell = self.jails.prepare(id, &directory, share).map_err(io_error(id, "prepare its jail"))?;
        let ways_out = Cell::ways_out(&config, &directory, cell.as_ref());
        let user = cell.as_ref().and_then(Cell::user);
        let ready = ReadyListener::bind(&ways_out, user).map_err(io_error(id, "listen for the agent"))?;
        let shares = self.share(id, &directory, cell.as_ref(), shares).await?;
        self.start_gateway(id, &directory, cell.as_ref(), gateway).await?;
        let spawning = timeout(LISTEN_DEADLINE, self.spawn(&config, &directory, cell.as_ref())).await;
        let taken = |_elapsed| deadline(id, "berth-vmm to take its files", LISTEN_DEADLINE, &directory);
        let mut process = spawning.map_err(taken)??;
        let listening = timeout(LISTEN_DEADLINE, process.listening()).await;
        match listening {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                let status = process.reaped().await;
                let reason = process::end_reason(&directory, status);
                return Err(MachineError::Ended { id: id.into(), reason });
            }
            Ok(Err(source)) => return Err(io_error(id, "read from berth-vmm")(source)),
            Err(_elapsed) => return Err(deadline(id, "berth-vmm to listen", LISTEN_DEADLINE, &directory)),
        }
        let control = ControlClient::connect(&directory.join(files::CONTROL))
            .await
            .map_err(io_error(id, "connect to its control socket"))?;
        let (control, spare_disk) = (Arc::new(control), spare_disk::index_in(&config));
        let shares = shares.map(Arc::new);
        let (pace, jails) = (self.settings.pace, Arc::clone(&self.jails));
        let machine = Machine { id: id.into(), directory, control, process, pace, jails, shares, spare_disk };
        Ok(StartingMachine { machine, ready })
    }

    /// Starts the server of a machine's shares, and shares with it what is to be there from the beginning.
    async fn share(
        &self,
        id: &str,
        directory: &Path,
        cell: Option<&Cell>,
        new: Option<Vec<NewShare>>,
    ) -> Result<Option<Shares>, MachineError> {
        let Some(new) = new else { return Ok(None) };
        let failed = |cause| MachineError::Shares { id: id.into(), cause };
        let groups = cell.map_or(&[][..], Cell::control_groups);
        let shares = Shares::start(&self.settings.virtiofsd, directory, groups).await.map_err(failed)?;
        for share in new {
            shares.add(share).await.map_err(failed)?;
        }
        Ok(Some(shares))
    }

    async fn spawn(
        &self,
        config: &MachineConfig,
        directory: &Path,
        cell: Option<&Cell>,
    ) -> Result<VmmProcess, MachineError> {
        let vmm = &self.settings.vmm;
        let spawned = match cell {
            None => VmmProcess::spawn(vmm, directory),
            Some(cell) => {
                let (files, orders) =
                    cell.handover(config).map_err(io_error(&config.id, "open what it is made of"))?;
                VmmProcess::spawn_jailed(vmm, directory, files, orders).await
            }
        };
        spawned.map_err(|source| process::spawn_error(&config.id, vmm, &source))
    }

    fn config(&self, id: &str, size: &MachineSize, disks: Vec<Disk>) -> MachineConfig {
        let disks = disks.into_iter().map(|disk| DiskConfig {
            capacity_bytes: disk.extents.iter().map(|extent| extent.length_bytes).sum(),
            access: disk.access,
            extents: disk.extents,
        });
        MachineConfig {
            id: id.into(),
            accelerator: self.settings.accelerator,
            vcpus: size.vcpus,
            memory_mib: size.memory_mib,
            kernel: self.settings.kernel.clone(),
            initramfs: Some(self.settings.initramfs.clone()),
            command_line: String::new(),
            disks: disks.collect(),
            network_cards: vec![],
            balloon: (self.settings.accelerator == Accelerator::Kvm).then_some(BALLOON),
            shares: vec![],
            guest_cid: GUEST_CID,
            console_limit_bytes: CONSOLE_LIMIT_BYTES,
            restore: None,
            host_cpuid: self.host_cpuid.clone(),
            qemu: self.settings.qemu.clone(),
        }
    }

    fn prepare_directory(
        &self,
        id: &str,
        directory: &Path,
        config: &MachineConfig,
    ) -> Result<(), MachineError> {
        config
            .validate()
            .map_err(|error| MachineError::Refused { id: id.into(), message: error.to_string() })?;
        self.clear(id).map_err(io_error(id, "clear its directory"))?;
        std::fs::create_dir(directory).map_err(io_error(id, "make its directory"))?;
        let json = serde_json::to_vec_pretty(config).expect("plain data is always JSON");
        std::fs::write(directory.join(files::CONFIG), json).map_err(io_error(id, "write its configuration"))
    }

    /// The machine of that id if it is alive.
    pub(crate) async fn find(&self, id: &str) -> Option<Machine> {
        let directory = self.directory(id);
        let control = ControlClient::connect(&directory.join(files::CONTROL)).await.ok()?;
        let process = VmmProcess::adopt(control.peer()?)?;
        let (pace, jails) = (self.settings.pace, Arc::clone(&self.jails));
        let shares = Shares::find(&directory).map(Arc::new);
        let spare_disk = written_config(&directory).as_ref().and_then(spare_disk::index_in);
        let control = Arc::new(control);
        let machine = Machine { id: id.into(), directory, control, process, pace, jails, shares, spare_disk };
        let Reply::Status(_) = machine.request(Request::Status).await.ok()? else { return None };
        Some(machine)
    }

    /// Removes what a machine that is no more left behind. Kills it first if it still lives but does not answer.
    pub(crate) fn clear(&self, id: &str) -> io::Result<()> {
        let directory = self.directory(id);
        if let Some(process) = process::holder_of_lock(&directory) {
            process.kill();
            process.wait_until_gone(END_DEADLINE);
        }
        shares::end_without_machine(&directory);
        gateway::end(&directory);
        self.jails.take_back(id, &directory);
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Why the machine of that id, which is no more, ended; with the console's last lines.
    pub(crate) fn post_mortem(&self, id: &str) -> String {
        process::end_reason(&self.directory(id), None)
    }
}

/// A machine whose guest boots.
#[derive(Debug)]
pub(crate) struct StartingMachine {
    machine: Machine,
    ready: ReadyListener,
}

impl StartingMachine {
    /// Waits for the agent's word that it serves.
    pub(crate) async fn ready(self) -> Result<(Machine, Ready), (Machine, MachineError)> {
        let Self { machine, ready } = self;
        let boot_deadline = machine.pace.deadline(BOOT_DEADLINE);
        let arrived = tokio::select! {
            arrived = timeout(boot_deadline, ready.accept()) => arrived,
            () = machine.ended() => return Err(machine.into_ended().await),
        };
        let error = match arrived {
            Ok(Ok(ready)) => return Ok((machine, ready)),
            Ok(Err(source)) => io_error(&machine.id, "hear from its agent")(source),
            Err(_elapsed) => deadline(&machine.id, "its agent to start", boot_deadline, &machine.directory),
        };
        Err((machine, error))
    }
}

/// A live machine.
#[derive(Debug)]
pub(crate) struct Machine {
    id: String,
    directory: PathBuf,
    control: Arc<ControlClient>,
    process: VmmProcess,
    pace: Pace,
    jails: Arc<Jails>,
    shares: Option<Arc<Shares>>,
    /// Which of its disks it is.
    spare_disk: Option<usize>,
}

impl Machine {
    /// What comes into its guest and goes from there while it runs, if it was started with shares.
    pub(crate) fn shares(&self) -> Option<&Arc<Shares>> {
        self.shares.as_ref()
    }

    /// Completes when `berth-vmm` is no more, however it ended.
    pub(crate) async fn ended(&self) {
        self.control.closed().await;
    }

    /// What to multiply one's patience with, waiting for its guest.
    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    /// The path that guest ports are reached through, for [`connect`].
    pub(crate) fn vsock_path(&self) -> PathBuf {
        self.directory.join(files::VSOCK)
    }

    /// What ends it by force; [`Machine::ended`] completes.
    pub(crate) fn killer(&self) -> MachineKiller {
        self.process.killer()
    }

    /// Gives it another share of the host.
    ///
    /// # Errors
    /// The control group's file that could not be written.
    pub(crate) fn set_share(&self, share: &HostShare) -> io::Result<()> {
        Jails::set_share(&self.directory, share)
    }

    /// What its console said last, for an error's end.
    pub(crate) fn console_evidence(&self) -> String {
        process::console_evidence(&self.directory)
    }

    /// Ends the machine, in good order if it answers and by force if not, and removes its directory.
    pub(crate) async fn end(mut self) {
        let _ending: Result<Reply, MachineError> = self.request(Request::ShutDown).await;
        if timeout(END_DEADLINE, self.ended()).await.is_err() {
            tracing::warn!(machine = %self.id, "berth-vmm did not end when asked to; killing it");
            self.killer().kill();
            if timeout(END_DEADLINE, self.ended()).await.is_err() {
                tracing::error!(machine = %self.id, "berth-vmm does not end although it was killed");
                return;
            }
        }
        self.remove_directory().await;
    }

    /// Why it ended by itself, with what its console said last; removes its directory.
    pub(crate) async fn into_post_mortem(mut self) -> String {
        let reason = self.end_reason().await;
        self.remove_directory().await;
        reason
    }

    async fn into_ended(mut self) -> (Self, MachineError) {
        let reason = self.end_reason().await;
        let error = MachineError::Ended { id: self.id.clone(), reason };
        (self, error)
    }

    async fn end_reason(&mut self) -> String {
        let status = self.process.reaped().await;
        process::end_reason(&self.directory, status)
    }

    async fn remove_directory(&mut self) {
        self.process.reaped().await;
        let (jails, id, directory) = (Arc::clone(&self.jails), self.id.clone(), self.directory.clone());
        let removing = tokio::task::spawn_blocking(move || {
            shares::end_without_machine(&directory);
            gateway::end(&directory);
            jails.take_back(&id, &directory);
            if let Err(error) = std::fs::remove_dir_all(&directory) {
                tracing::warn!(machine = id, %error, "cannot remove the machine's directory");
            }
        });
        let _panicked = removing.await;
    }
}

/// What a machine was made with, as its state directory says; no machine can write it.
fn written_config(directory: &Path) -> Option<MachineConfig> {
    let json = std::fs::read(directory.join(files::CONFIG)).ok()?;
    serde_json::from_slice(&json).ok()
}

fn io_error(id: &str, step: &'static str) -> impl FnOnce(io::Error) -> MachineError {
    let id = id.to_owned();
    move |source| MachineError::Io { id, step, source }
}

fn deadline(id: &str, waited_for: &'static str, deadline: Duration, directory: &Path) -> MachineError {
    let evidence = process::console_evidence(directory);
    MachineError::Deadline { id: id.into(), waited_for, deadline, evidence }
}

/// For [`MachineExit`]'s readers.
fn describe_exit(exit: &MachineExit) -> String {
    match exit {
        MachineExit::ShutDown => "it was shut down".into(),
        MachineExit::GuestReset => "its guest reset itself, as after a kernel panic".into(),
        MachineExit::Failed { message } => message.clone(),
    }
}
