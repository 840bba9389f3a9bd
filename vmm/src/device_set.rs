//! The devices of one machine, made from its configuration, and the handles the control thread keeps of them.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Accelerator, DiskConfig, MachineConfig, NetworkCardConfig, files};
use crate::console_log::ConsoleLog;
use crate::control::Counters;
use crate::snapshot::{OpenError, OpenedSnapshot};
use crate::virtio::{
    Balloon, BalloonHandle, BindError, Block, CardHandle, Console, Disk, Gateway, HostEnd, NetworkCard, Rng,
    Share, ShareError, Tap, TapError, VirtioDevice, Vsock, VsockStatistics, fs,
};

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("disk {index}")]
    Disk { index: usize, source: BindError },
    #[error("{file}")]
    File { file: &'static str, source: io::Error },
    #[error("network card {index}")]
    Tap { index: usize, source: TapError },
    #[error("network card {index}: cannot connect to its network stack")]
    Gateway { index: usize, source: io::Error },
    #[error("network card {index}")]
    NetworkCard { index: usize, source: io::Error },
    #[error("the snapshot")]
    Snapshot(#[from] OpenError),
    #[error("the balloon")]
    Balloon(#[source] io::Error),
    #[error("share {tag}")]
    Share { tag: String, source: ShareError },
}

/// What an accelerator is given to run a machine with.
pub(crate) struct DeviceSet {
    /// In guest order.
    pub(crate) disks: Vec<Box<dyn VirtioDevice>>,
    pub(crate) vsock: Box<dyn VirtioDevice>,
    pub(crate) rng: Box<dyn VirtioDevice>,
    pub(crate) console: Box<dyn VirtioDevice>,
    /// In guest order.
    pub(crate) network_cards: Vec<Box<dyn VirtioDevice>>,
    pub(crate) balloon: Option<Box<dyn VirtioDevice>>,
    /// In guest order, where this process introduces guest and server to each other.
    pub(crate) shares: Vec<Box<dyn VirtioDevice>>,
    /// The tag of each share and the connection to its server, where QEMU does that.
    pub(crate) share_servers: Vec<(String, UnixStream)>,
    /// What the machine goes on from instead of booting.
    pub(crate) snapshot: Option<OpenedSnapshot>,
    /// Where the guest's words go that do not come through the console device.
    pub(crate) console_log: Arc<ConsoleLog>,
}

/// What stays with the control thread: disks to bind, counters to read.
#[derive(Debug)]
pub(crate) struct DeviceHandles {
    pub(crate) disks: Vec<Arc<Disk>>,
    pub(crate) network_cards: Vec<CardHandle>,
    pub(crate) balloon: Option<Arc<BalloonHandle>>,
    vsock: Arc<VsockStatistics>,
    console_log: Arc<ConsoleLog>,
}

impl DeviceHandles {
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            disks: self.disks.iter().map(|disk| disk.counters()).collect(),
            vsock: self.vsock.counters(),
            console_bytes: self.console_log.printed_bytes(),
            network_cards: self.network_cards.iter().map(|card| card.counters()).collect(),
            balloon: self.balloon.as_ref().map(|balloon| balloon.counters()),
            vcpus: Vec::new(),
        }
    }
}

/// Opens the files and sockets of every device; those of the machine's own lie in `directory`.
///
/// # Errors
/// Names the disk or file that cannot be opened.
pub(crate) fn open(
    directory: &Path,
    config: &MachineConfig,
) -> Result<(DeviceSet, DeviceHandles), DeviceError> {
    let failed = |file| move |source| DeviceError::File { file, source };
    let console_log = ConsoleLog::create(&directory.join(files::CONSOLE), config.console_limit_bytes)
        .map_err(failed(files::CONSOLE))?;
    let console_log = Arc::new(console_log);
    let vsock =
        Vsock::listen(directory.join(files::VSOCK), config.guest_cid).map_err(failed(files::VSOCK))?;
    let cards = open_cards(&config.network_cards)?;
    let balloon = config.balloon.map(|balloon| Balloon::new(balloon, config.memory_mib));
    let balloon = balloon.transpose().map_err(DeviceError::Balloon)?;
    let handles = DeviceHandles {
        network_cards: card_handles(&cards)?,
        balloon: balloon.as_ref().map(Balloon::handle),
        vsock: vsock.statistics(),
        console_log: console_log.clone(),
        disks: open_disks(&config.disks, &console_log)?,
    };
    let blocks = handles.disks.iter().enumerate().map(|(index, disk)| Block::new(disk.clone(), index));
    let snapshot =
        config.restore.as_ref().map(|restore| OpenedSnapshot::open(&restore.directory)).transpose()?;
    let (shares, share_servers) = connect_shares(config)?;
    let devices = DeviceSet {
        snapshot,
        disks: blocks.map(boxed).collect(),
        network_cards: cards.into_iter().map(boxed).collect(),
        vsock: Box::new(vsock),
        rng: Box::new(Rng),
        console: Box::new(Console::new(console_log.clone())),
        balloon: balloon.map(boxed),
        shares,
        share_servers,
        console_log,
    };
    Ok((devices, handles))
}

fn boxed(device: impl VirtioDevice + 'static) -> Box<dyn VirtioDevice> {
    Box::new(device)
}

fn open_disks(disks: &[DiskConfig], console_log: &Arc<ConsoleLog>) -> Result<Vec<Arc<Disk>>, DeviceError> {
    let open = |(index, disk)| {
        let disk = Arc::new(Disk::open(disk).map_err(|source| DeviceError::Disk { index, source })?);
        disk.tell_failures(console_log.clone(), index);
        Ok(disk)
    };
    disks.iter().enumerate().map(open).collect()
}

fn open_cards(cards: &[NetworkCardConfig]) -> Result<Vec<NetworkCard>, DeviceError> {
    let open = |(index, card): (usize, &NetworkCardConfig)| {
        let tap = card.tap.as_deref().map(Tap::open).transpose();
        let tap = tap.map_err(|source| DeviceError::Tap { index, source })?;
        let gateway = card.gateway.as_ref().map(|gateway| Gateway::connect(gateway, card.mac)).transpose();
        let gateway = gateway.map_err(|source| DeviceError::Gateway { index, source })?;
        let end = tap.map(HostEnd::Tap).or(gateway.map(|gateway| HostEnd::Gateway(Box::new(gateway))));
        NetworkCard::new(end, card.mac, card.mtu, card.rates)
            .map_err(|source| DeviceError::NetworkCard { index, source })
    };
    cards.iter().enumerate().map(open).collect()
}

fn card_handles(cards: &[NetworkCard]) -> Result<Vec<CardHandle>, DeviceError> {
    let failed = |(index, source)| DeviceError::NetworkCard { index, source };
    let handles =
        cards.iter().enumerate().map(|(index, card)| card.handle().map_err(|source| (index, source)));
    handles.map(|handle| handle.map_err(failed)).collect()
}

type ConnectedShares = (Vec<Box<dyn VirtioDevice>>, Vec<(String, UnixStream)>);

fn connect_shares(config: &MachineConfig) -> Result<ConnectedShares, DeviceError> {
    let (mut shares, mut servers) = (Vec::new(), Vec::new());
    for share in &config.shares {
        let failed = |source| DeviceError::Share { tag: share.tag.clone(), source };
        match config.accelerator {
            Accelerator::Kvm => {
                shares.push(boxed(Share::connect(&share.tag, &share.socket).map_err(failed)?));
            }
            Accelerator::Tcg => {
                servers.push((share.tag.clone(), fs::connect(&share.socket).map_err(failed)?));
            }
        }
    }
    Ok((shares, servers))
}
