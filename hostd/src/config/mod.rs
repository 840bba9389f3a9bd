//! The daemon's settings: flags and the configuration file, merged and checked into [`Settings`].
//!
//! Follows dockerd: the same names in both places, an unknown key is refused, and so is a setting that stands in
//! both. Nothing here opens a database, a socket or a device.

mod artifacts;
mod file;
mod flags;
mod host;
mod networks;
mod registries;
mod remap;
mod size;

use std::path::{Path, PathBuf};

use berth_vmm::config::{Accelerator, MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB};

use self::artifacts::Artifacts;
use self::file::FileSettings;
pub use self::flags::{Flags, LogLevel};
pub use self::host::Host;
pub use self::registries::without_password;
use self::remap::Accounts;
use crate::accelerator::{Choice, Request};
use crate::engine::{
    EngineSettings, JailSettings, MachineSettings, NetworkPolicy, Pace, SCRATCH_DISK_BYTES, UserNamespace,
    UserRange,
};
use crate::registry::RegistrySettings;

/// Enough for the kernel, the agent and an ordinary program; `--memory` asks for more.
const DEFAULT_MACHINE_MEMORY_MIB: u64 = 512;
/// What a container may write; sparse, so that only what it does write costs anything.
const DEFAULT_SCRATCH_BYTES: u64 = 16 << 30;

/// Everything the daemon was told, complete and checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hosts: Vec<Host>,
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    pub pidfile: PathBuf,
    pub log_level: LogLevel,
    pub debug: bool,
    pub registries: RegistrySettings,
    pub accelerator: Request,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub vmm: PathBuf,
    /// Looked up in PATH if it is a bare name.
    pub qemu: PathBuf,
    pub virtiofsd: PathBuf,
    /// Looked up in PATH if it is a bare name.
    pub passt: PathBuf,
    /// `None`: machines are not jailed.
    pub jail: Option<JailSettings>,
    pub machine_memory_mib: u32,
    /// If not asked for, the accelerator decides.
    pub machine_vcpus: Option<u8>,
    pub scratch_disk_bytes: u64,
    /// `None`: containers' users are their machines'.
    pub user_namespace: Option<UserNamespace>,
    pub networks: NetworkPolicy,
}

/// A setting that cannot be used. Each message is one sentence that names the setting.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {path} is not valid: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error(
        "the following directives are specified both as a flag and in the configuration file: {}",
        .0.join(", ")
    )]
    Twice(Vec<&'static str>),
    #[error("{setting}: {problem}")]
    Invalid { setting: &'static str, problem: String },
    #[error(
        "{what} was not found at {}; build it with `cargo xtask demo` or name it with {flag}",
        searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing { what: &'static str, flag: &'static str, searched: Vec<PathBuf> },
}

fn invalid(setting: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { setting, problem: problem.into() }
}

impl Settings {
    /// Merges the flags with the file they name and fills in the defaults.
    ///
    /// # Errors
    /// The first setting that is wrong, given twice, or a program or kernel that is nowhere.
    pub fn resolve(flags: Flags) -> Result<Self, ConfigError> {
        let file = flags.config_file.as_deref().map(FileSettings::read).transpose()?.unwrap_or_default();
        let given = file.merge(flags)?;
        let registries = registries::resolve(&given, environment)?;
        let exec_root = absolute("exec-root", given.exec_root.as_deref().unwrap_or(Path::new("/run/berth")))?;
        let data_root =
            absolute("data-root", given.data_root.as_deref().unwrap_or(Path::new("/var/lib/berth")))?;
        let pidfile = absolute("pidfile", given.pidfile.as_deref().unwrap_or(&exec_root.join("berthd.pid")))?;
        let hosts = hosts(&given.hosts, &exec_root)?;
        let networks = networks::resolve(&given, &hosts)?;
        let artifacts = Artifacts::find(given.kernel, given.initramfs, given.vmm, given.virtiofsd)?;
        Ok(Self {
            hosts,
            networks,
            pidfile,
            log_level: given.log_level.unwrap_or_default(),
            debug: given.debug.unwrap_or(false),
            registries,
            accelerator: given.accelerator.unwrap_or_default(),
            kernel: artifacts.kernel,
            initramfs: artifacts.initramfs,
            vmm: artifacts.vmm,
            virtiofsd: artifacts.virtiofsd,
            passt: given.passt.unwrap_or_else(|| "passt".into()),
            qemu: given.qemu.unwrap_or_else(|| "qemu-system-x86_64".into()),
            jail: jail(given.no_jail, given.machine_users)?,
            machine_memory_mib: machine_memory_mib(given.machine_memory.as_deref())?,
            machine_vcpus: given.machine_cpus.map(machine_vcpus).transpose()?,
            scratch_disk_bytes: scratch_disk_bytes(given.scratch_size.as_deref())?,
            user_namespace: user_namespace(given.userns_remap.as_deref())?,
            exec_root,
            data_root,
        })
    }

    /// What of this is the engine's, with machines as `choice` says.
    #[must_use]
    pub fn for_engine(&self, choice: &Choice) -> EngineSettings {
        EngineSettings {
            data_root: self.data_root.clone(),
            exec_root: self.exec_root.clone(),
            machine: MachineSettings {
                accelerator: choice.accelerator,
                pace: choice.pace,
                kernel: self.kernel.clone(),
                initramfs: self.initramfs.clone(),
                vmm: self.vmm.clone(),
                qemu: self.qemu.clone(),
                virtiofsd: self.virtiofsd.clone(),
                passt: self.passt.clone(),
                jail: self.jail,
            },
            machine_memory_mib: self.machine_memory_mib,
            machine_vcpus: self.machine_vcpus.unwrap_or_else(|| default_vcpus(choice)),
            scratch_disk_bytes: self.scratch_disk_bytes,
            user_namespace: self.user_namespace.clone(),
            networks: self.networks.clone(),
        }
    }
}

/// A variable of the environment; an empty one counts as unset.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn jail(none: Option<bool>, users: Option<UserRange>) -> Result<Option<JailSettings>, ConfigError> {
    if !none.unwrap_or(false) {
        return Ok(Some(JailSettings { users: users.unwrap_or_default() }));
    }
    if users.is_some() {
        return Err(invalid("machine-users", "machines without a jail (no-jail) have the daemon's user"));
    }
    Ok(None)
}

/// All of the host's, but one where each further one costs boot time, and under emulation a thread.
fn default_vcpus(choice: &Choice) -> u8 {
    match (choice.accelerator, choice.pace) {
        (Accelerator::Kvm, Pace::Ordinary) => {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            u8::try_from(cpus).unwrap_or(MAX_VCPUS).min(MAX_VCPUS)
        }
        (Accelerator::Tcg, _) | (_, Pace::Interpreted) => 1,
    }
}

/// Machines are started in other working directories and by other processes.
fn absolute(setting: &'static str, path: &Path) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().is_empty() {
        return Err(invalid(setting, "an empty path"));
    }
    std::path::absolute(path).map_err(|error| invalid(setting, format!("{}: {error}", path.display())))
}

fn hosts(given: &[String], exec_root: &Path) -> Result<Vec<Host>, ConfigError> {
    let default = exec_root.join("berthd.sock");
    if given.is_empty() {
        return Ok(vec![Host::Unix(default)]);
    }
    given.iter().map(|text| Host::parse(text, &default).map_err(|problem| invalid("host", problem))).collect()
}

fn machine_memory_mib(given: Option<&str>) -> Result<u32, ConfigError> {
    let mib = match given {
        Some(text) => size::parse_mib(text).map_err(|problem| invalid("machine-memory", problem))?,
        None => DEFAULT_MACHINE_MEMORY_MIB,
    };
    let bounds = MIN_MEMORY_MIB..=MAX_MEMORY_MIB;
    u32::try_from(mib).ok().filter(|mib| bounds.contains(mib)).ok_or_else(|| {
        invalid("machine-memory", format!("{mib} MiB; {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} MiB are possible"))
    })
}

fn machine_vcpus(given: u8) -> Result<u8, ConfigError> {
    if (1..=MAX_VCPUS).contains(&given) {
        return Ok(given);
    }
    Err(invalid("machine-cpus", format!("{given}; 1 to {MAX_VCPUS} are possible")))
}

fn user_namespace(given: Option<&str>) -> Result<Option<UserNamespace>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    remap::resolve(given, &Accounts::of_host()).map_err(|problem| invalid("userns-remap", problem))
}

fn scratch_disk_bytes(given: Option<&str>) -> Result<u64, ConfigError> {
    let bytes = match given {
        Some(text) => size::parse_bytes(text).map_err(|problem| invalid("scratch-size", problem))?,
        None => DEFAULT_SCRATCH_BYTES,
    };
    if SCRATCH_DISK_BYTES.contains(&bytes) {
        return Ok(bytes);
    }
    Err(invalid("scratch-size", format!("{bytes} bytes; 16m to 16t are possible")))
}

#[cfg(test)]
mod tests;
