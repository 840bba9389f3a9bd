//! The process's resource limits: what no machine needs more of.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{JailError, step};
use crate::config::{DiskAccess, MachineConfig};

/// Descriptors: a thousand connections, every piece of every disk, and room for the process's own.
const OPEN_FILES: u64 = 16 << 10;
/// Threads of this user: vCPUs, control connections, and workers that the kernel starts for asynchronous reads.
const THREADS: u64 = 512;
/// For what the kernel wants pinned: rings of requests, no guest memory.
const LOCKED_BYTES: u64 = 1 << 20;
/// A snapshot's file of guest memory has a head.
const SNAPSHOT_HEAD_BYTES: u64 = 64 << 20;

/// The limits of one machine.
#[derive(Debug)]
pub(crate) struct Limits {
    /// No file grows beyond this.
    file_bytes: u64,
}

impl Limits {
    pub(crate) fn of(config: &MachineConfig) -> Self {
        let memory_bytes = u64::from(config.memory_mib) << 20;
        let extents = config
            .disks
            .iter()
            .filter(|disk| disk.access == DiskAccess::ReadWrite)
            .flat_map(|disk| &disk.extents);
        let ends = extents.map(|extent| extent.offset_bytes.saturating_add(extent.length_bytes));
        // A disk that is bound later may lie anywhere in its file, but hardly beyond twice its size.
        let later = config.disks.iter().map(|disk| disk.capacity_bytes.saturating_mul(2));
        let largest = ends.chain(later).max().unwrap_or(0);
        let file_bytes =
            largest.max(memory_bytes + SNAPSHOT_HEAD_BYTES).max(config.console_limit_bytes.saturating_mul(2));
        Self { file_bytes }
    }

    #[cfg(test)]
    pub(super) fn unlimited_files() -> Self {
        Self { file_bytes: u64::MAX }
    }

    pub(super) fn set(&self) -> Result<(), JailError> {
        no_core_dumps()?;
        at_most(Resource::Nofile, OPEN_FILES)?;
        at_most(Resource::Nproc, THREADS)?;
        at_most(Resource::Memlock, LOCKED_BYTES)?;
        at_most(Resource::Fsize, self.file_bytes)
    }
}

/// A core dump is guest memory on the host's disk.
pub(super) fn no_core_dumps() -> Result<(), JailError> {
    at_most(Resource::Core, 0)
}

/// Sets both limits to `wanted`, or to what is allowed if that is less.
fn at_most(resource: Resource, wanted: u64) -> Result<(), JailError> {
    let allowed = getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let limit = Rlimit { current: Some(allowed), maximum: Some(allowed) };
    setrlimit(resource, limit).map_err(step("set a resource limit"))
}
