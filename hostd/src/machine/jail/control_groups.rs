//! A control group for each machine, below the daemon's own: its processes are counted and bounded there.
//!
//! In version 2 that is one directory; in version 1 one in each hierarchy that bounds something we care about.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file that takes a process's number.
pub(super) const PROCESSES: &str = "cgroup.procs";
/// Between the daemon's group and the machines'.
const PARENT: &str = "berth-machines";
/// Hierarchies of version 1 that are used where they are mounted.
const CONTROLLERS: [&str; 2] = ["pids", "memory"];
/// Processes and threads of a machine, QEMU's included.
const MAX_TASKS: &str = "1024";
/// A group empties a moment after its last process is gone.
const REMOVE_ATTEMPTS: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// Where machines' groups are made: one directory of each hierarchy.
#[derive(Debug)]
pub(super) struct ControlGroups {
    parents: Vec<PathBuf>,
}

impl ControlGroups {
    /// # Errors
    /// Why this daemon cannot make groups, in a clause.
    pub(super) fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let parents = own_directories(&mounts, &own);
        if parents.is_empty() {
            return Err("no hierarchy of control groups is mounted".into());
        }
        let groups = Self { parents: parents.iter().map(|directory| directory.join(PARENT)).collect() };
        // Tried here, so that it is known before the first machine starts.
        let trial = groups.of(&format!("trial-{}", std::process::id()));
        let tried = groups.make(&trial);
        for group in &trial {
            // Its absence is what was tried.
            let _absent: io::Result<()> = remove(group);
        }
        tried.map(|()| groups).map_err(|error| error.to_string())
    }

    /// The directories of one machine's groups.
    pub(super) fn of(&self, id: &str) -> Vec<PathBuf> {
        self.parents.iter().map(|parent| parent.join(id)).collect()
    }

    /// Makes the groups that [`Self::of`] named.
    pub(super) fn make(&self, groups: &[PathBuf]) -> io::Result<()> {
        for group in groups {
            make_directory(group).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot make {}: {error}", group.display()))
            })?;
            let limit = group.join("pids.max");
            if limit.exists() {
                fs::write(limit, MAX_TASKS)?;
            }
        }
        Ok(())
    }
}

/// Another daemon may remove the parent as empty in between.
fn make_directory(group: &Path) -> io::Result<()> {
    let parent = group.parent().unwrap_or(group);
    for _ in 0..REMOVE_ATTEMPTS {
        if fs::create_dir(parent).is_ok() {
            // In version 2 a group's limits are its parent's to switch on; without them it still is a group.
            let _without: io::Result<()> = fs::write(parent.join("cgroup.subtree_control"), "+pids +memory");
        }
        match fs::create_dir(group) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && parent.parent().is_some_and(Path::exists) => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Removes a group whose processes have ended, and its parent if that was the last one. One that is gone is no error.
pub(super) fn remove(group: &Path) -> io::Result<()> {
    let mut attempts = 0;
    loop {
        match fs::remove_dir(group) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempts < REMOVE_ATTEMPTS => {
                attempts += 1;
                std::thread::sleep(REMOVE_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(parent) = group.parent() {
        // Not while other machines have groups in it.
        let _in_use: io::Result<()> = fs::remove_dir(parent);
    }
    Ok(())
}

/// This process's own group in each hierarchy that is used, from the texts of `mountinfo` (proc(5)) and `cgroup`
/// (cgroups(7)).
fn own_directories(mounts: &str, own: &str) -> Vec<PathBuf> {
    let mounts: Vec<CgroupMount<'_>> = mounts.lines().filter_map(CgroupMount::parse).collect();
    let mut directories: Vec<PathBuf> = Vec::new();
    let mut unified = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            unified =
                mounts.iter().find(|mount| mount.controllers.is_none()).map(|mount| mount.directory(path));
            continue;
        }
        let used = |name: &str| CONTROLLERS.contains(&name);
        let Some(name) = controllers.split(',').find(|name| used(name)) else { continue };
        let mount = mounts.iter().find(|mount| {
            mount.controllers.is_some_and(|controllers| controllers.split(',').any(|other| other == name))
        });
        if let Some(directory) = mount.map(|mount| mount.directory(path))
            && !directories.contains(&directory)
        {
            directories.push(directory);
        }
    }
    // A hierarchy of version 2 beside those of version 1 bounds nothing.
    if directories.is_empty() { unified.into_iter().collect() } else { directories }
}

/// A line of `mountinfo`.
struct CgroupMount<'l> {
    /// The group that is at the mount point.
    root: &'l str,
    point: &'l str,
    /// `None` is version 2.
    controllers: Option<&'l str>,
}

impl<'l> CgroupMount<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut kind = kind.split(' ');
        let controllers = match kind.next()? {
            "cgroup2" => None,
            "cgroup" => Some(kind.nth(1)?),
            _ => return None,
        };
        Some(Self { root, point, controllers })
    }

    fn directory(&self, group: &str) -> PathBuf {
        let below = Path::new(group).strip_prefix(self.root).unwrap_or(Path::new(""));
        Path::new(self.point).join(below.strip_prefix("/").unwrap_or(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_one_directory() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/system.slice/berthd.service\n";
        let directories = own_directories(mounts, own);
        assert_eq!(directories, [Path::new("/sys/fs/cgroup/system.slice/berthd.service")]);
    }

    #[test]
    fn version_1_is_a_directory_of_each_hierarchy_and_version_2_beside_it_is_not_used() {
        let mounts = "34 33 0:29 / /c/cpu rw - cgroup cgroup rw,cpu\n\
                      37 33 0:32 / /c/memory rw - cgroup cgroup rw,memory\n\
                      40 33 0:35 /docker/1 /c/pids rw - cgroup cgroup rw,pids\n\
                      42 33 0:37 / /c/unified rw - cgroup2 cgroup2 rw\n";
        let own = "9:cpu:/\n8:pids:/docker/1/x\n4:memory:/a/b\n0::/\n";
        assert_eq!(own_directories(mounts, own), [Path::new("/c/pids/x"), Path::new("/c/memory/a/b")]);
    }

    #[test]
    fn controllers_that_share_a_hierarchy_share_a_directory() {
        let mounts = "37 33 0:32 / /c/both rw - cgroup cgroup rw,memory,pids\n";
        assert_eq!(own_directories(mounts, "4:memory,pids:/\n"), [Path::new("/c/both")]);
        assert!(own_directories("", "0::/\n").is_empty());
    }
}
