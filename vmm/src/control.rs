//! The control socket's messages: one JSON object a line, a reply for every request, in order.
//!
//! A connection that is kept open doubles as a sign of life: it ends when `berth-vmm` does, however that happens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{CardRates, DiskAccess, Extent};

/// The longest line either side accepts: a bind of [`crate::config::MAX_EXTENTS`] long paths fits.
pub const MAX_LINE_BYTES: usize = 8 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Answered with [`Reply::Status`].
    Status,
    /// Gives a part of a disk that is bound to nothing its files. Answered with [`Reply::Done`] when the guest's next
    /// read sees them.
    BindDisk {
        disk: usize,
        /// Where on the disk the part begins.
        #[serde(default)]
        start_bytes: u64,
        /// What may be done with these files, if that is less than with the disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access: Option<DiskAccess>,
        extents: Vec<Extent>,
    },
    /// Takes the files away that were bound from there on. Answered with [`Reply::Done`] when no request of the guest's
    /// on them is under way any more; it reads zeros there then, until something else is bound. Nothing is done where
    /// nothing is bound.
    UnbindDisk {
        disk: usize,
        start_bytes: u64,
    },
    /// Binds a network card that is bound to nothing to a TAP interface: one of this process's network namespace, or what
    /// was handed over under that name ([`crate::open_tap`] makes it). Answered with [`Reply::Done`]; the card takes it
    /// up a moment later.
    BindCard {
        card: usize,
        tap: String,
        /// From now on; without any, the card is as fast as it can be.
        #[serde(default)]
        rates: CardRates,
    },
    /// A card lets go of its interface, a moment after [`Reply::Done`]. The guest sees the link go down (under tcg it sees
    /// nothing of it, QEMU has its own word on that); what it sends is dropped.
    UnbindCard {
        card: usize,
    },
    /// Asks the guest to give back memory until this much is missing, or to take some again. Answered with
    /// [`Reply::Done`] at once; how far the guest is, [`Counters`] say.
    SetBalloon {
        target_mib: u32,
    },
    /// Hands over an open file for each path; the descriptors come with the line (`SCM_RIGHTS`, in that order). Later
    /// requests mean them by these paths. Only a machine in the jail takes any: the others open files by themselves.
    TakeFiles {
        paths: Vec<PathBuf>,
    },
    /// Stops the vCPUs. Answered when none of them runs guest code any more.
    Pause,
    Resume,
    /// Saves the machine into a directory, which is made if it is missing and must not hold a snapshot. The machine
    /// stands still while it is copied and goes on afterwards, unless it was paused. Answered with
    /// [`Reply::SnapshotSaved`] when everything is on stable storage.
    SaveSnapshot {
        directory: PathBuf,
        /// Note from now on what changes, so that the next snapshot writes only that. The guest's first write to each
        /// page costs more then.
        #[serde(default)]
        track_changes: bool,
    },
    /// Notes next to the snapshot that this machine was restored from which parts of memory it has touched so far: later
    /// machines load those ahead, as huge pages. Answered with [`Reply::WorkingSetRecorded`].
    RecordWorkingSet,
    /// Answered with [`Reply::Counters`].
    Counters,
    /// Ends the machine at once; what the guest has not written is lost. Answered before it ends.
    ShutDown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    Done,
    Status(Status),
    Counters(Box<Counters>),
    SnapshotSaved(SnapshotReport),
    WorkingSetRecorded { mib: u64 },
    Error { message: String },
}

/// What a snapshot took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// Of RAM; pages of zeros are not written.
    pub memory_bytes_written: u64,
    /// For how long the machine stood still.
    pub paused_us: u64,
    /// Only changes were written; the rest is shared with the snapshot before.
    pub is_incremental: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub state: RunState,
    pub pid: u32,
    /// Microseconds from the start of `berth-vmm` until the vCPUs could run (for tcg: until QEMU was let go).
    pub started_after_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Booting,
    Running,
    Paused,
}

/// Since the machine's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub disks: Vec<DiskCounters>,
    pub vsock: VsockCounters,
    pub console_bytes: u64,
    /// In guest order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_cards: Vec<NetworkCounters>,
    /// `None` without a balloon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balloon: Option<BalloonCounters>,
    /// One for each vCPU, where KVM counts: not under tcg, nor before the vCPUs exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vcpus: Vec<VcpuCounters>,
}

/// What KVM counts of one vCPU; a statistic that this host's KVM does not have is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VcpuCounters {
    /// All times it left the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exits: Option<u64>,
    /// Of these, for ports; software KVM does not tell these apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_exits: Option<u64>,
    /// Of these, for devices' registers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mmio_exits: Option<u64>,
    /// Times it had nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injected_interrupts: Option<u64>,
    /// Instructions that KVM executed in the processor's stead: a handful on hardware, all of the guest kernel's on
    /// software KVM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulated_instructions: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounters {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub flushes: u64,
    pub discarded_bytes: u64,
    pub errors: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VsockCounters {
    pub connections: u64,
    pub to_guest_bytes: u64,
    pub to_host_bytes: u64,
    pub refused_packets: u64,
}

/// Frames and their bytes, from the Ethernet header on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCounters {
    pub to_guest_frames: u64,
    pub to_guest_bytes: u64,
    /// Too long for the guest's buffers. What the interface itself drops, its own statistics say.
    pub dropped_to_guest: u64,
    pub to_network_frames: u64,
    pub to_network_bytes: u64,
    /// Malformed, or not to be sent now.
    pub dropped_to_network: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalloonCounters {
    pub target_mib: u32,
    /// What the guest says it has given back, and not taken again.
    pub actual_mib: u32,
    /// Taken back by the host, because the balloon was inflated, and because the guest reported pages as free. Pages
    /// that the guest used again meanwhile count again.
    pub inflated_bytes: u64,
    pub reported_bytes: u64,
    /// The guest's own view of its memory, from between the last two requests for counters.
    pub guest: Option<GuestMemoryStatistics>,
}

/// What a guest says of its memory (virtio 1.2, section 5.5.6.3). A guest may leave out any of it, and may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMemoryStatistics {
    pub total_bytes: Option<u64>,
    pub free_bytes: Option<u64>,
    /// Free, or to be had without swapping.
    pub available_bytes: Option<u64>,
    pub disk_cache_bytes: Option<u64>,
    pub swapped_in_bytes: Option<u64>,
    pub swapped_out_bytes: Option<u64>,
    pub minor_faults: Option<u64>,
    pub major_faults: Option<u64>,
}

/// Why a machine is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum MachineExit {
    /// Asked for over the control socket, or by SIGTERM.
    ShutDown,
    /// The guest reset or powered itself off, which is also how a kernel panic ends.
    GuestReset,
    /// The machine could not be started, or its accelerator or a device failed.
    Failed { message: String },
}
