//! What a machine is made of: plain data that the daemon writes to the state directory and `berth-vmm` reads.
//!
//! Says nothing of what runs inside. Validation is [`MachineConfig::validate`]; everything behind it trusts the values.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The names of the files in a machine's state directory.
pub mod files {
    /// [`super::MachineConfig`] as JSON, written by the daemon before `berth-vmm` starts.
    pub const CONFIG: &str = "machine.json";
    /// Locked (flock) by `berth-vmm` for as long as it lives; holds its pid in decimal.
    pub const LOCK: &str = "lock";
    /// Unix socket of the control protocol, [`crate::control`].
    pub const CONTROL: &str = "control.sock";
    /// Unix socket on which the host says `CONNECT <port>\n`; `<this>_<port>` are the guest's ways out.
    pub const VSOCK: &str = "vsock.sock";
    /// What the guest's console printed, bounded: the newest bytes win.
    pub const CONSOLE: &str = "console.log";
    /// [`crate::control::MachineExit`] as JSON, written by `berth-vmm` as its last act.
    pub const EXIT: &str = "exit.json";
}

/// What executes the guest's CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// `/dev/kvm`, by our own machine monitor.
    Kvm,
    /// A child QEMU's software emulation; the devices are still ours. No security boundary.
    Tcg,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineConfig {
    /// For messages and process titles.
    pub id: String,
    pub accelerator: Accelerator,
    pub vcpus: u8,
    pub memory_mib: u32,
    /// An uncompressed x86-64 ELF kernel.
    pub kernel: PathBuf,
    pub initramfs: Option<PathBuf>,
    /// Appended to the command line that the accelerator and the devices need.
    pub command_line: String,
    /// In guest order: the first is `vda`.
    pub disks: Vec<DiskConfig>,
    /// The guest's vsock context id, above 2.
    pub guest_cid: u32,
    /// The console file is kept under this many bytes.
    pub console_limit_bytes: u64,
    /// `qemu-system-x86_64`, looked up in PATH if not absolute. Only [`Accelerator::Tcg`] uses it.
    pub qemu: PathBuf,
}

/// One virtio block device. Its capacity is fixed at boot; what backs it may be bound later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    pub capacity_bytes: u64,
    pub access: DiskAccess,
    /// Empty: unbound, reads give zeros and writes fail until [`crate::control::Request::BindDisk`].
    pub extents: Vec<Extent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskAccess {
    ReadOnly,
    ReadWrite,
}

/// A run of bytes of a file. A disk is its extents one after the other; beyond the last, reads give zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    pub path: PathBuf,
    pub offset_bytes: u64,
    pub length_bytes: u64,
}

/// Sizes are whole sectors (virtio 1.2, section 5.2.4).
pub const SECTOR_BYTES: u64 = 512;
/// Bounds of one machine; each is refused with its name in the message.
pub const MAX_VCPUS: u8 = 32;
pub const MIN_MEMORY_MIB: u32 = 32;
pub const MAX_MEMORY_MIB: u32 = 1 << 20;
pub const MAX_DISKS: usize = 8;
/// A disk put together from 127 pieces and a head fits many times.
pub const MAX_EXTENTS: usize = 1024;
pub const MAX_COMMAND_LINE_BYTES: usize = 1024;

#[derive(Debug, thiserror::Error)]
#[error("machine configuration: {field}: {problem}")]
pub struct InvalidConfig {
    pub field: &'static str,
    pub problem: String,
}

fn check(holds: bool, field: &'static str, problem: impl Into<String>) -> Result<(), InvalidConfig> {
    if holds { Ok(()) } else { Err(InvalidConfig { field, problem: problem.into() }) }
}

impl MachineConfig {
    /// # Errors
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        check((1..=MAX_VCPUS).contains(&self.vcpus), "vcpus", format!("1 to {MAX_VCPUS} are possible"))?;
        let memory = MIN_MEMORY_MIB..=MAX_MEMORY_MIB;
        check(memory.contains(&self.memory_mib), "memory_mib", format!("{memory:?} are possible"))?;
        check(self.guest_cid > 2, "guest_cid", "0 to 2 are reserved")?;
        check(self.disks.len() <= MAX_DISKS, "disks", format!("at most {MAX_DISKS}"))?;
        let command_line = self.command_line.len() <= MAX_COMMAND_LINE_BYTES && self.command_line.is_ascii();
        check(command_line, "command_line", format!("at most {MAX_COMMAND_LINE_BYTES} ASCII characters"))?;
        self.disks.iter().try_for_each(DiskConfig::validate)
    }
}

impl DiskConfig {
    /// # Errors
    /// A capacity that is no multiple of a sector, or extents that do not fit.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let whole = self.capacity_bytes > 0 && self.capacity_bytes.is_multiple_of(SECTOR_BYTES);
        check(whole, "disks.capacity_bytes", "a positive multiple of 512")?;
        validate_extents(&self.extents, self.capacity_bytes)
    }
}

/// # Errors
/// Extents that are too many, not made of whole sectors, or longer than the disk.
pub fn validate_extents(extents: &[Extent], capacity_bytes: u64) -> Result<(), InvalidConfig> {
    check(extents.len() <= MAX_EXTENTS, "extents", format!("at most {MAX_EXTENTS}"))?;
    let mut total: u64 = 0;
    for extent in extents {
        let whole = extent.length_bytes > 0 && extent.length_bytes.is_multiple_of(SECTOR_BYTES);
        check(whole, "extents.length_bytes", "a positive multiple of 512")?;
        let end = extent.offset_bytes.checked_add(extent.length_bytes);
        check(end.is_some(), "extents.offset_bytes", "offset and length overflow")?;
        total = total.saturating_add(extent.length_bytes);
    }
    check(total <= capacity_bytes, "extents", "longer than the disk's capacity")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset_bytes: u64, length_bytes: u64) -> Extent {
        Extent { path: "/x".into(), offset_bytes, length_bytes }
    }

    #[test]
    fn extents_that_do_not_fit_are_refused() {
        assert!(validate_extents(&[extent(0, 512), extent(512, 512)], 1024).is_ok());
        assert!(validate_extents(&[extent(0, 1024), extent(0, 512)], 1024).is_err());
        assert!(validate_extents(&[extent(0, 100)], 1024).is_err());
        assert!(validate_extents(&[extent(u64::MAX, 512)], 1024).is_err());
        assert!(validate_extents(&[extent(0, u64::MAX - 511), extent(0, u64::MAX - 511)], 1024).is_err());
    }
}
