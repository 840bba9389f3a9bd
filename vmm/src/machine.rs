//! One machine, whatever executes it: an accelerator and the verbs that both have.

use std::path::Path;
use std::sync::mpsc::Sender;

use crate::config::{Accelerator, MachineConfig};
use crate::control::{MachineExit, SnapshotReport, VcpuCounters};
use crate::device_set::DeviceSet;
use crate::host_memory::{self, TooMuchMemory};
use crate::kvm_machine::{self, KvmMachine, RecordError, SaveError, Tracking};
use crate::qmp::QmpError;
use crate::tcg::{TcgError, TcgMachine};

/// Why a machine could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Memory(#[from] TooMuchMemory),
    #[error(transparent)]
    Tcg(#[from] TcgError),
    #[error(transparent)]
    Kvm(#[from] kvm_machine::StartError),
    #[error(transparent)]
    Snapshot(SnapshotError),
}

/// Why there is no snapshot, or nothing was noted about one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(
        "there are snapshots under --accelerator kvm only: tcg keeps the machine's state in another program"
    )]
    Accelerator,
    #[error(transparent)]
    Save(#[from] SaveError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A machine that was started.
pub(crate) enum Machine {
    Kvm(Box<KvmMachine>),
    Tcg(TcgMachine),
}

impl Machine {
    /// Starts the guest; how the machine ends, if nobody shuts it down, is sent to `exits`. The calling thread must
    /// last as long as the process.
    ///
    /// # Errors
    /// The machine is larger than its host, or the accelerator is not there, or refuses; the message names the fix where
    /// there is one.
    pub(crate) fn start(
        config: &MachineConfig,
        devices: DeviceSet,
        exits: Sender<MachineExit>,
    ) -> Result<Self, StartError> {
        host_memory::check(config.memory_mib)?;
        match config.accelerator {
            Accelerator::Tcg if config.restore.is_some() => {
                Err(StartError::Snapshot(SnapshotError::Accelerator))
            }
            Accelerator::Tcg => Ok(Self::Tcg(TcgMachine::start(config, devices, exits)?)),
            Accelerator::Kvm => Ok(Self::Kvm(Box::new(KvmMachine::start(config, devices, &exits)?))),
        }
    }

    /// Returns when no vCPU runs guest code any more.
    ///
    /// # Errors
    /// The accelerator is gone or stuck.
    pub(crate) fn pause(&self) -> Result<(), QmpError> {
        match self {
            Self::Kvm(machine) => {
                machine.pause();
                Ok(())
            }
            Self::Tcg(machine) => machine.pause(),
        }
    }

    /// # Errors
    /// The accelerator is gone or stuck.
    pub(crate) fn resume(&self) -> Result<(), QmpError> {
        match self {
            Self::Kvm(machine) => {
                machine.resume();
                Ok(())
            }
            Self::Tcg(machine) => machine.resume(),
        }
    }

    /// What the accelerator counts of each processor; nothing where it does not count.
    pub(crate) fn vcpu_counters(&self) -> Vec<VcpuCounters> {
        match self {
            Self::Kvm(machine) => machine.vcpu_counters(),
            Self::Tcg(_) => Vec::new(),
        }
    }

    /// Saves the machine into a directory; it stands still meanwhile.
    ///
    /// # Errors
    /// A part of it cannot be saved, the directory not be written, or the accelerator cannot do such things.
    pub(crate) fn save(
        &self,
        directory: &Path,
        tracking: Tracking,
        was_paused: bool,
    ) -> Result<SnapshotReport, SnapshotError> {
        match self {
            Self::Kvm(machine) => Ok(machine.save(directory, tracking, was_paused)?),
            Self::Tcg(_) => Err(SnapshotError::Accelerator),
        }
    }

    /// Notes which parts of memory a restored machine has touched; gives how many MiB they are.
    ///
    /// # Errors
    /// The machine was not restored, or the snapshot's directory cannot be written.
    pub(crate) fn record_working_set(&self) -> Result<u64, SnapshotError> {
        match self {
            Self::Kvm(machine) => Ok(machine.record_working_set()?),
            Self::Tcg(_) => Err(SnapshotError::Accelerator),
        }
    }

    /// Ends the guest at once, and returns when nothing of it runs any more.
    pub(crate) fn shut_down(&self) {
        match self {
            Self::Kvm(machine) => machine.shut_down(),
            Self::Tcg(machine) => machine.shut_down(),
        }
    }
}
