//! A control group for each machine, below the daemon's own or where the client says: its processes are counted and
//! bounded there, and have their share of the host beside those of other machines.
//!
//! In version 2 that is one directory; in version 1 one in each hierarchy that bounds something we care about.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The file that takes a process's number.
pub(super) const PROCESSES: &str = "cgroup.procs";
/// Between the daemon's group and the machines'.
const PARENT: &str = "berth-machines";
/// Hierarchies of version 1 that are used where they are mounted.
const CONTROLLERS: [&str; 4] = ["pids", "memory", "cpu", "blkio"];
/// Those of version 2 that do the same.
const UNIFIED_CONTROLLERS: [&str; 4] = ["+pids", "+memory", "+cpu", "+io"];
/// What a machine has that asks for nothing, in the words of either version.
const USUAL_CPU_SHARES: u64 = 1024;
const USUAL_IO_WEIGHT: u64 = 500;
/// The same in version 2, of its bounds.
const USUAL_UNIFIED_WEIGHT: u64 = 100;
const UNIFIED_WEIGHTS: RangeInclusive<u64> = 1..=10_000;
/// Processes and threads of a machine, QEMU's included.
const MAX_TASKS: &str = "1024";
/// A group empties a moment after its last process is gone.
const REMOVE_ATTEMPTS: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// What a machine gets of the host beside others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostShare {
    /// 2 to 262144, 1024 being usual.
    pub(crate) cpu_shares: Option<u64>,
    /// 10 to 1000, 500 being usual.
    pub(crate) io_weight: Option<u16>,
    /// The group, from the root of each hierarchy, that its own is made in; `None` is the daemon's.
    pub(crate) parent: Option<String>,
}

/// Where machines' groups are made, in each hierarchy.
#[derive(Debug)]
pub(super) struct ControlGroups {
    hierarchies: Vec<Hierarchy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    /// The daemon's own group.
    own: PathBuf,
}

impl ControlGroups {
    /// # Errors
    /// Why this daemon cannot make groups, in a clause.
    pub(super) fn find() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let hierarchies = hierarchies(&mounts, &own);
        if hierarchies.is_empty() {
            return Err("no hierarchy of control groups is mounted".into());
        }
        let groups = Self { hierarchies };
        // Tried here, so that it is known before the first machine starts.
        let trial = groups.of(&format!("trial-{}", std::process::id()), None);
        let tried = groups.make(&trial, &HostShare::default());
        for group in &trial {
            // Its absence is what was tried.
            let _absent: io::Result<()> = remove(group);
        }
        tried.map(|()| groups).map_err(|error| error.to_string())
    }

    /// The directories of one machine's groups.
    pub(super) fn of(&self, id: &str, parent: Option<&str>) -> Vec<PathBuf> {
        let parent_in = |hierarchy: &Hierarchy| match parent {
            None => hierarchy.own.join(PARENT),
            Some(parent) => {
                let below = Path::new(parent).components();
                let below = below.filter(|part| matches!(part, Component::Normal(_)));
                below.fold(hierarchy.root.clone(), |directory, part| directory.join(part))
            }
        };
        self.hierarchies.iter().map(|hierarchy| parent_in(hierarchy).join(id)).collect()
    }

    /// Makes the groups that [`Self::of`] named.
    pub(super) fn make(&self, groups: &[PathBuf], share: &HostShare) -> io::Result<()> {
        for (group, hierarchy) in groups.iter().zip(&self.hierarchies) {
            make_directory(group, &hierarchy.root).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot make {}: {error}", group.display()))
            })?;
            let limit = group.join("pids.max");
            if limit.exists() {
                fs::write(limit, MAX_TASKS)?;
            }
        }
        set_share(groups, share)
    }
}

/// Gives the machine of these groups that share, in whichever of them that is set.
pub(super) fn set_share(groups: &[PathBuf], share: &HostShare) -> io::Result<()> {
    let shares = share.cpu_shares.unwrap_or(USUAL_CPU_SHARES);
    let io_weight = share.io_weight.map_or(USUAL_IO_WEIGHT, u64::from);
    let unified = |own: u64, usual: u64| {
        let weight = own.saturating_mul(USUAL_UNIFIED_WEIGHT) / usual;
        weight.clamp(*UNIFIED_WEIGHTS.start(), *UNIFIED_WEIGHTS.end())
    };
    let files = [
        ("cpu.shares", shares.to_string()),
        ("cpu.weight", unified(shares, USUAL_CPU_SHARES).to_string()),
        ("blkio.weight", io_weight.to_string()),
        ("blkio.bfq.weight", io_weight.to_string()),
        ("io.weight", format!("default {}", unified(io_weight, USUAL_IO_WEIGHT))),
    ];
    for group in groups {
        for (file, value) in &files {
            let path = group.join(file);
            if path.exists() {
                let named =
                    |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                fs::write(&path, value).map_err(named)?;
            }
        }
    }
    Ok(())
}

/// Lets groups in this one be limited. In version 2 that is the parent's to switch on, each controller where there is
/// one; without it a group still is a group.
fn delegate(directory: &Path) {
    let switches = directory.join("cgroup.subtree_control");
    if switches.exists() {
        for controller in UNIFIED_CONTROLLERS {
            let _without: io::Result<()> = fs::write(&switches, controller);
        }
    }
}

/// Another daemon may remove the parent as empty in between.
fn make_directory(group: &Path, root: &Path) -> io::Result<()> {
    let parent = group.parent().unwrap_or(group);
    for _ in 0..REMOVE_ATTEMPTS {
        if !parent.exists() && fs::create_dir_all(parent).is_ok() {
            let above: Vec<&Path> = parent.ancestors().take_while(|above| above.starts_with(root)).collect();
            above.into_iter().rev().for_each(delegate);
        }
        match fs::create_dir(group) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && parent.parent().is_some_and(Path::exists) => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Removes a group whose processes have ended, and the daemon's parent of it if that was the last one; any other parent is
/// somebody's who may have limited it. A group that is gone is no error.
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
    if let Some(parent) =
        group.parent().filter(|parent| parent.file_name().is_some_and(|name| name == PARENT))
    {
        // Not while other machines have groups in it.
        let _in_use: io::Result<()> = fs::remove_dir(parent);
    }
    Ok(())
}

/// Each hierarchy that is used, with this process's own group, from the texts of `mountinfo` (proc(5)) and `cgroup`
/// (cgroups(7)).
fn hierarchies(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let mounts: Vec<CgroupMount<'_>> = mounts.lines().filter_map(CgroupMount::parse).collect();
    let mut directories: Vec<Hierarchy> = Vec::new();
    let mut unified = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            unified =
                mounts.iter().find(|mount| mount.controllers.is_none()).map(|mount| mount.hierarchy(path));
            continue;
        }
        let used = |name: &str| CONTROLLERS.contains(&name);
        let Some(name) = controllers.split(',').find(|name| used(name)) else { continue };
        let mount = mounts.iter().find(|mount| {
            mount.controllers.is_some_and(|controllers| controllers.split(',').any(|other| other == name))
        });
        if let Some(directory) = mount.map(|mount| mount.hierarchy(path))
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

    fn hierarchy(&self, group: &str) -> Hierarchy {
        let below = Path::new(group).strip_prefix(self.root).unwrap_or(Path::new(""));
        let root = PathBuf::from(self.point);
        Hierarchy { own: root.join(below.strip_prefix("/").unwrap_or(below)), root }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_directories(mounts: &str, own: &str) -> Vec<PathBuf> {
        hierarchies(mounts, own).into_iter().map(|hierarchy| hierarchy.own).collect()
    }

    #[test]
    fn a_parent_is_found_from_the_root_of_each_hierarchy_and_leads_nowhere_else() {
        let hierarchy = |name: &str| Hierarchy {
            root: Path::new("/c").join(name),
            own: Path::new("/c").join(name).join("d"),
        };
        let groups = ControlGroups { hierarchies: vec![hierarchy("cpu"), hierarchy("pids")] };
        assert_eq!(groups.of("m", None)[1], Path::new("/c/pids/d/berth-machines/m"));
        for parent in ["/web/api", "web/api", "//web/./api/"] {
            assert_eq!(groups.of("m", Some(parent))[0], Path::new("/c/cpu/web/api/m"), "{parent}");
        }
        assert_eq!(groups.of("m", Some("/../../x"))[0], Path::new("/c/cpu/x/m"));
    }

    #[test]
    fn a_share_is_written_where_there_is_a_place_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        for name in ["cpu.shares", "cpu.weight", "io.weight"] {
            fs::write(file(name), "").unwrap();
        }
        let groups = [directory.path().to_owned()];
        let said =
            || ["cpu.shares", "cpu.weight", "io.weight"].map(|name| fs::read_to_string(file(name)).unwrap());
        set_share(&groups, &HostShare::default()).unwrap();
        assert_eq!(said(), ["1024", "100", "default 100"]);
        let more = HostShare { cpu_shares: Some(2048), io_weight: Some(10), parent: None };
        set_share(&groups, &more).unwrap();
        assert_eq!(said(), ["2048", "200", "default 2"]);
        set_share(&groups, &HostShare { cpu_shares: Some(2), ..more }).unwrap();
        assert_eq!(said()[1], "1");
        assert!(!file("blkio.weight").exists());
    }

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
        assert_eq!(
            own_directories(mounts, own),
            [Path::new("/c/cpu"), Path::new("/c/pids/x"), Path::new("/c/memory/a/b")]
        );
    }

    #[test]
    fn controllers_that_share_a_hierarchy_share_a_directory() {
        let mounts = "37 33 0:32 / /c/both rw - cgroup cgroup rw,memory,pids\n";
        assert_eq!(own_directories(mounts, "4:memory,pids:/\n"), [Path::new("/c/both")]);
        assert!(own_directories("", "0::/\n").is_empty());
    }
}
