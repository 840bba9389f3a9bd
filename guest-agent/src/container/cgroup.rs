//! A container's cgroup (v2): its limits, its end, and what it reports.
//!
//! The values written are made by pure functions; the rest is files below [`ROOT`].

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_protocol::agent::{ErrorCode, Resources};
use rustix::fs::{Mode, OFlags};

use crate::failure::{During, Failure};

const ROOT: &str = "/sys/fs/cgroup";
/// Containers lie below this one, so that their names never meet the kernel's file names in the root.
const CONTAINERS: &str = "/sys/fs/cgroup/containers";

/// Those that [`Resources`] can limit. Each further one would cost memory and time in every container's cgroup, and
/// enabling them all doubles what the agent needs until it is ready.
const CONTROLLERS: &str = "+cpu +memory +pids";

/// The period of the CPU limit, the kernel's default and Docker's.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel refuses smaller quotas.
const MIN_CPU_QUOTA_US: u64 = 1_000;

/// A cgroup the container itself made may keep its directory for the moment in which its last process ends.
const REMOVAL_ATTEMPTS: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);
/// How deep a container's own cgroups are followed when they are removed.
const MAX_DEPTH: u32 = 32;

/// A directory below [`CONTAINERS`].
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup of this container, whether it exists or not.
    pub(crate) fn of(container_id: &str) -> Self {
        Self { path: Path::new(CONTAINERS).join(container_id) }
    }

    /// Makes the cgroup and sets its limits.
    ///
    /// # Errors
    /// INTERNAL if it cannot be made, RESOURCE_LIMIT if the kernel refuses a limit.
    pub(crate) fn create(&self, resources: &Resources) -> Result<(), Failure> {
        let path = &self.path;
        std::fs::create_dir(path).during(ErrorCode::Internal, || format!("create {}", path.display()))?;
        for (file, value) in limits(resources) {
            self.write(file, &value).during(ErrorCode::ResourceLimit, || format!("set {file} to {value}"))?;
        }
        Ok(())
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
        std::fs::read_to_string(self.path.join("memory.events")).map_or(0, |events| oom_kills(&events))
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
    for level in [ROOT, CONTAINERS] {
        write_existing(&Path::new(level).join("cgroup.subtree_control"), CONTROLLERS)?;
    }
    Ok(())
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

/// The files to write for limits that were asked for.
///
/// Swap is no question: a machine has none. `memory.oom.group` stays off, as with Docker: the kernel ends the process it
/// finds worst, not the whole container.
fn limits(resources: &Resources) -> Vec<(&'static str, String)> {
    let mut limits = Vec::new();
    if resources.memory_bytes > 0 {
        limits.push(("memory.max", resources.memory_bytes.to_string()));
    }
    if resources.nano_cpus > 0 {
        limits.push(("cpu.max", cpu_max(resources.nano_cpus)));
    }
    if resources.pids > 0 {
        limits.push(("pids.max", resources.pids.to_string()));
    }
    limits
}

/// `quota period` for a number of 1e-9 CPUs.
fn cpu_max(nano_cpus: u64) -> String {
    let quota_us = u128::from(nano_cpus) * u128::from(CPU_PERIOD_US) / 1_000_000_000;
    format!("{} {CPU_PERIOD_US}", quota_us.max(u128::from(MIN_CPU_QUOTA_US)))
}

fn oom_kills(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_limit_is_a_share_of_the_period() {
        assert_eq!(cpu_max(1_500_000_000), "150000 100000");
        assert_eq!(cpu_max(10_000_000), "1000 100000");
        assert_eq!(cpu_max(1), "1000 100000", "the kernel's minimum");
        assert_eq!(cpu_max(u64::MAX), "1844674407370955 100000", "no overflow");
    }

    #[test]
    fn zero_means_no_limit() {
        assert_eq!(limits(&Resources::default()), []);
        assert_eq!(limits(&Resources { pids: -1, ..Resources::default() }), []);
    }

    #[test]
    fn every_limit_has_its_file() {
        let resources = Resources { memory_bytes: 64 << 20, nano_cpus: 500_000_000, pids: 100 };
        let expected = [("memory.max", "67108864"), ("cpu.max", "50000 100000"), ("pids.max", "100")];
        assert_eq!(limits(&resources), expected.map(|(file, value)| (file, value.to_owned())));
    }

    #[test]
    fn oom_kills_are_read_from_the_right_line() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n"), 2);
        assert_eq!(oom_kills("oom 3\noom_group_kill 1\n"), 0);
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
