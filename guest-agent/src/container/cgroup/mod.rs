//! A container's cgroup (v2): its limits, its standstill, its end, and what it reports.
//!
//! The values written are made by pure functions of the modules below; the rest is files below [`ROOT`].

mod device_rules;
mod limits;
pub(crate) mod statistics;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_protocol::agent::{DeviceRule, ErrorCode, Resources, Statistics};
use rustix::fs::{FileType, Mode, OFlags, major, minor};

use crate::failure::{During, Failure};
use limits::Limit;

const ROOT: &str = "/sys/fs/cgroup";
/// Containers lie below this one, so that their names never meet the kernel's file names in the root.
const CONTAINERS: &str = "/sys/fs/cgroup/containers";

/// Those of every container. Each further one would cost memory and time in every cgroup, and enabling them all doubles
/// what the agent needs until it is ready: the first container that asks for one enables it.
const CONTROLLERS: &str = "+cpu +memory +pids";

/// A cgroup the container itself made may keep its directory for the moment in which its last process ends.
const REMOVAL_ATTEMPTS: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);
/// How deep a container's own cgroups are followed when they are removed.
const MAX_DEPTH: u32 = 32;

/// Processes stand still at their next return from the kernel; one that hangs in it keeps the others waiting.
const FREEZE_ATTEMPTS: u32 = 1000;
const FREEZE_PAUSE: Duration = Duration::from_millis(10);

/// A directory below [`CONTAINERS`].
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

/// The cgroup of all containers, for what holds for each of them.
///
/// # Errors
/// If there is none: no container has been made.
pub(crate) fn open_containers() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open(CONTAINERS)?.into())
}

impl Cgroup {
    /// The cgroup of this container, whether it exists or not.
    pub(crate) fn of(container_id: &str) -> Self {
        Self { path: Path::new(CONTAINERS).join(container_id) }
    }

    /// Makes the cgroup and sets its limits, those of devices included unless there are none.
    ///
    /// # Errors
    /// INTERNAL if it cannot be made, RESOURCE_LIMIT if the kernel refuses a limit.
    pub(crate) fn create(
        &self,
        resources: &Resources,
        device_rules: Option<Vec<DeviceRule>>,
    ) -> Result<(), Failure> {
        let path = &self.path;
        std::fs::create_dir(path).during(ErrorCode::Internal, || format!("create {}", path.display()))?;
        if let Some(rules) = device_rules {
            let directory = std::fs::File::open(path);
            let directory = directory.during(ErrorCode::Internal, || format!("open {}", path.display()))?;
            device_rules::enforce(directory, &[device_rules::standard(), rules].concat())?;
        }
        self.limit(resources, |limit| !limit.is_default)
    }

    /// Replaces the limits.
    ///
    /// # Errors
    /// RESOURCE_LIMIT if the kernel refuses one; those before it are set.
    pub(crate) fn update(&self, resources: &Resources) -> Result<(), Failure> {
        // A controller that nobody has asked for so far has no files, and its limits are the default.
        self.limit(resources, |limit| !limit.is_default || self.path.join(limit.file).exists())
    }

    fn limit(&self, resources: &Resources, wanted: impl Fn(&Limit) -> bool) -> Result<(), Failure> {
        let controllers = limits::further_controllers(resources).join(" ");
        if !controllers.is_empty() {
            enable(&controllers).during(ErrorCode::ResourceLimit, || format!("enable {controllers}"))?;
        }
        let of_disks = limits::disk_limits(resources, device_numbers);
        let of_disks = of_disks.during(ErrorCode::ResourceLimit, || "limit a disk")?;
        for Limit { file, value, .. } in limits::limits(resources).into_iter().filter(wanted).chain(of_disks)
        {
            self.write(file, &value)
                .during(ErrorCode::ResourceLimit, || format!("set {file} to {}", value.trim()))?;
        }
        Ok(())
    }

    /// Makes every process stand still, or go on. Answers when they do.
    ///
    /// # Errors
    /// INTERNAL after some seconds; they go on then.
    pub(crate) async fn freeze(&self, frozen: bool) -> Result<(), Failure> {
        let step = || format!("{} {}", if frozen { "freeze" } else { "thaw" }, self.path.display());
        self.write("cgroup.freeze", if frozen { "1" } else { "0" }).during(ErrorCode::Internal, step)?;
        for _ in 0..FREEZE_ATTEMPTS {
            let events = std::fs::read_to_string(self.path.join("cgroup.events"));
            let events = events.during(ErrorCode::Internal, step)?;
            if (statistics::count(&events, "frozen") == 1) == frozen {
                return Ok(());
            }
            tokio::time::sleep(FREEZE_PAUSE).await;
        }
        self.write("cgroup.freeze", "0").during(ErrorCode::Internal, step)?;
        Err(Failure::new(ErrorCode::Internal, format!("{}: a process does not stand still", step())))
    }

    /// What it has counted; of interfaces what the process `pid` has.
    pub(crate) fn statistics(&self, pid: Option<u32>) -> Statistics {
        statistics::read(&self.path, pid)
    }

    /// The processes in it, also in what the container made below it. One that cannot be read has ended.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        collect_pids(&self.path, MAX_DEPTH, &mut pids);
        pids
    }

    /// For starting processes in it.
    ///
    /// # Errors
    /// If it is gone.
    pub(crate) fn open(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    /// How many processes of it the kernel ended for lack of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        std::fs::read_to_string(self.path.join("memory.events"))
            .map_or(0, |events| statistics::count(&events, "oom_kill"))
    }

    /// Kills every process in it. Nothing to kill is no error.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) fn kill(&self) -> io::Result<()> {
        absent_is_fine(self.write("cgroup.kill", "1"))
    }

    /// Removes it and what the container made below it. All its processes must have ended.
    ///
    /// # Errors
    /// If it is still in use after a second.
    pub(crate) async fn remove(&self) -> io::Result<()> {
        let mut outcome = remove_tree(&self.path, MAX_DEPTH);
        for _ in 0..REMOVAL_ATTEMPTS {
            if outcome.is_ok() {
                break;
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
            outcome = remove_tree(&self.path, MAX_DEPTH);
        }
        outcome
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        write_existing(&self.path.join(file), value)
    }
}

/// Makes the place for containers' cgroups and lets them be limited. Once per boot.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn prepare() -> io::Result<()> {
    std::fs::create_dir(CONTAINERS)?;
    enable(CONTROLLERS)
}

fn enable(controllers: &str) -> io::Result<()> {
    for level in [ROOT, CONTAINERS] {
        write_existing(&Path::new(level).join("cgroup.subtree_control"), controllers)?;
    }
    Ok(())
}

/// Major and minor of a disk of the machine.
fn device_numbers(path: &str) -> io::Result<(u32, u32)> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Err(io::Error::other("not a block device"));
    }
    Ok((major(stat.st_rdev), minor(stat.st_rdev)))
}

fn collect_pids(directory: &Path, depth: u32, pids: &mut Vec<u32>) {
    let listed = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), depth - 1, pids);
        }
    }
}

fn remove_tree(directory: &Path, depth: u32) -> io::Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if depth > 0 && entry.file_type()?.is_dir() {
            remove_tree(&entry.path(), depth - 1)?;
        }
    }
    absent_is_fine(std::fs::remove_dir(directory))
}

/// cgroup files exist or not; opening one with O_CREAT would hide that.
fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_wherever_the_container_put_them() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        std::fs::write(directory.path().join("cgroup.procs"), "7\n").unwrap();
        std::fs::write(directory.path().join("a/b/cgroup.procs"), "8\n9\n").unwrap();
        let cgroup = Cgroup { path: directory.path().to_owned() };
        assert_eq!(cgroup.pids(), [7, 8, 9]);
    }

    #[test]
    fn a_file_is_no_disk() {
        assert!(device_numbers("/proc/self/stat").unwrap_err().to_string().contains("not a block device"));
        assert!(device_numbers("/nowhere/at/all").is_err());
    }

    #[test]
    fn a_tree_is_removed_from_its_leaves() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("top");
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        remove_tree(&top, MAX_DEPTH).unwrap();
        assert!(!top.exists());
        remove_tree(&top, MAX_DEPTH).expect("removing what is gone is fine");
    }
}
