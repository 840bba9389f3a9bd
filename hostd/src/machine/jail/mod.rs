//! What the daemon does for the machines' jail: users and control groups to give away, and the open files of a machine.
//!
//! `berth-vmm` closes the jail around itself; from here comes what it cannot make without being more than it should.
//! What a machine was given stands in its state directory before it is made, so that it is found and taken back
//! however machine or daemon end.

mod control_groups;
mod files;
mod users;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use berth_vmm::config::{Accelerator, DiskAccess, Extent, MachineConfig, files as state_files};
use berth_vmm::handover::Orders;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use control_groups::ControlGroups;
pub(crate) use control_groups::HostShare;
pub use users::UserRange;
use users::Users;

/// [`Cell`] as JSON, beside the machine's own files.
const CELL: &str = "jail.json";

/// How machines are jailed; `None` in [`super::MachineSettings`] is not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JailSettings {
    /// Users, and groups of the same numbers, of which each machine gets one.
    pub users: UserRange,
}

/// How much of a jail this daemon's machines have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `--no-jail`.
    None,
    /// tcg: what QEMU can do without.
    Emulator,
    /// The daemon may not give users away: machines are its own user, in a user namespace each.
    DaemonUser,
    /// Everything.
    Full,
}

impl Profile {
    /// As `info` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Emulator => "emulator",
            Self::DaemonUser => "daemon-user",
            Self::Full => "full",
        }
    }

    fn warning(self) -> Option<&'static str> {
        match self {
            Self::None => Some(
                "machines are not jailed (--no-jail): a guest that breaks out of its machine has this daemon's rights",
            ),
            // That the accelerator is no boundary is said already.
            Self::Emulator | Self::Full => None,
            Self::DaemonUser => Some(
                "the daemon has no right to give machines users of their own: a guest that breaks out of its machine \
                 has the daemon's user, in namespaces of its own; run berthd as root",
            ),
        }
    }
}

/// The jails of one daemon's machines.
#[derive(Debug)]
pub(crate) struct Jails {
    profile: Profile,
    users: Users,
    /// Or why there are none.
    control_groups: Result<ControlGroups, String>,
}

/// One machine's part.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cell {
    user: Option<u32>,
    /// Directories of control groups.
    control_groups: Vec<PathBuf>,
}

impl Jails {
    /// Looks at what the host allows, and at the machines below `machines` that have users already.
    pub(crate) fn open(settings: Option<JailSettings>, accelerator: Accelerator, machines: &Path) -> Self {
        let profile = match (settings, accelerator) {
            (None, _) => Profile::None,
            (Some(_), Accelerator::Tcg) => Profile::Emulator,
            (Some(_), Accelerator::Kvm) if may_give_users() => Profile::Full,
            (Some(_), Accelerator::Kvm) => Profile::DaemonUser,
        };
        let users = Users::new(settings.map_or_else(UserRange::default, |settings| settings.users), machines);
        for entry in std::fs::read_dir(machines).into_iter().flatten().flatten() {
            if let (Some(id), Some(user)) = (entry.file_name().to_str(), Cell::read(&entry.path()).user) {
                users.keep(id, user);
            }
        }
        let control_groups = match profile {
            Profile::None => Err("nobody asked for any".into()),
            Profile::Emulator | Profile::DaemonUser | Profile::Full => ControlGroups::find(),
        };
        Self { profile, users, control_groups }
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// What `info` and the log say of a jail that is not whole.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let groups = match &self.control_groups {
            Err(reason) if self.profile != Profile::None => {
                Some(format!("machines have no control groups of their own: {reason}"))
            }
            _ => None,
        };
        self.profile.warning().map(str::to_owned).into_iter().chain(groups).collect()
    }

    /// Prepares the jail of machine `id`, whose new state directory is `directory`; `None` if it gets none.
    pub(super) fn prepare(&self, id: &str, directory: &Path, share: &HostShare) -> io::Result<Option<Cell>> {
        let user = match self.profile {
            Profile::None => return Ok(None),
            Profile::Full => Some(self.users.take(id)?),
            Profile::Emulator | Profile::DaemonUser => None,
        };
        let groups = self.control_groups.as_ref().ok();
        let cell = Cell {
            user,
            control_groups: groups.map_or_else(Vec::new, |groups| groups.of(id, share.parent.as_deref())),
        };
        let json = serde_json::to_vec(&cell).expect("plain data is always JSON");
        std::fs::write(directory.join(CELL), json)?;
        if let Some(groups) = groups {
            groups.make(&cell.control_groups, share)?;
        }
        std::fs::create_dir(directory.join(state_files::ROOT))?;
        Ok(Some(cell))
    }

    /// Gives the machine with that state directory another share of the host. Its parent stays.
    pub(super) fn set_share(directory: &Path, share: &HostShare) -> io::Result<()> {
        control_groups::set_share(&Cell::read(directory).control_groups, share)
    }

    /// Why machines have no control groups; nothing if they have.
    pub(crate) fn without_control_groups(&self) -> Option<&str> {
        self.control_groups.as_ref().err().map(String::as_str)
    }

    /// Takes back what machine `id`, which is no more, was given. Blocks for a moment while its groups empty.
    pub(super) fn take_back(&self, id: &str, directory: &Path) {
        let cell = Cell::read(directory);
        for group in &cell.control_groups {
            if let Err(error) = control_groups::remove(group) {
                tracing::warn!(group = %group.display(), %error, "cannot remove a machine's control group");
            }
        }
        self.users.give_back(id);
    }
}

impl Cell {
    fn read(directory: &Path) -> Self {
        let json = std::fs::read(directory.join(CELL)).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    }

    /// Whether the machine of that state directory is jailed at all.
    pub(super) fn is_there(directory: &Path) -> bool {
        directory.join(CELL).exists()
    }

    /// Where the sockets belong that the guest connects to. An emulated machine sees the host's files.
    pub(super) fn ways_out(config: &MachineConfig, directory: &Path, cell: Option<&Self>) -> PathBuf {
        match (config.accelerator, cell) {
            (Accelerator::Kvm, Some(_)) => directory.join(state_files::ROOT),
            _ => directory.to_owned(),
        }
    }

    /// Directories of the machine's control groups.
    pub(super) fn control_groups(&self) -> &[PathBuf] {
        &self.control_groups
    }

    pub(super) fn user(&self) -> Option<u32> {
        self.user
    }

    /// What `berth-vmm` is handed.
    pub(super) fn handover(&self, config: &MachineConfig) -> io::Result<(Vec<(PathBuf, OwnedFd)>, Orders)> {
        let cgroups: Vec<PathBuf> =
            self.control_groups.iter().map(|group| group.join(control_groups::PROCESSES)).collect();
        let mut opened = files::open_for(config)?;
        for procs in &cgroups {
            opened.push((procs.clone(), files::open_to_write(procs)?));
        }
        Ok((opened, Orders { user: self.user, cgroups }))
    }
}

/// The open files of a disk that is bound to a machine in the jail while it runs.
pub(super) fn open_extents(extents: &[Extent], access: DiskAccess) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    files::open_extents(extents, access)
}

/// Changing users, roots and namespaces takes these.
fn may_give_users() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|own| own.effective.contains(needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jails(machines: &Path) -> Jails {
        let users = UserRange::parse("5000-5001").unwrap();
        Jails {
            profile: Profile::Full,
            users: Users::new(users, machines),
            control_groups: Err("none in this test".into()),
        }
    }

    #[test]
    fn users_are_kept_over_a_restart_and_taken_back_once_the_machine_is_gone() {
        let machines = tempfile::tempdir().unwrap();
        let directory = |id: &str| machines.path().join(id);
        let first = jails(machines.path());
        std::fs::create_dir(directory("a")).unwrap();
        let user = first.prepare("a", &directory("a"), &HostShare::default()).unwrap().unwrap().user();

        let accelerator = Accelerator::Kvm;
        let settings = JailSettings { users: UserRange::parse("5000-5001").unwrap() };
        let second = Jails::open(Some(settings), accelerator, machines.path());
        let other = second.users.take("b").unwrap();
        assert_ne!(user, Some(other));
        assert!(second.users.take("c").is_err());
        second.take_back("a", &directory("a"));
        assert_eq!(second.users.take("c").ok(), user);
    }

    #[test]
    fn control_groups_are_removed_by_whoever_finds_the_machine_gone() {
        let machines = tempfile::tempdir().unwrap();
        let settings = JailSettings { users: UserRange::default() };
        let open = || Jails::open(Some(settings), Accelerator::Tcg, machines.path());
        let first = open();
        if let Err(reason) = &first.control_groups {
            let test = "control_groups_are_removed_by_whoever_finds_the_machine_gone";
            eprintln!("skipped: {test}: {reason}");
            return;
        }
        let id = format!("test-{}", std::process::id());
        let directory = machines.path().join(&id);
        std::fs::create_dir(&directory).unwrap();
        let cell = first.prepare(&id, &directory, &HostShare::default()).unwrap().unwrap();
        assert!(!cell.control_groups.is_empty());
        assert!(cell.control_groups.iter().all(|group| group.join(control_groups::PROCESSES).exists()));
        drop(first);
        open().take_back(&id, &directory);
        assert!(!cell.control_groups.iter().any(|group| group.exists()));
        // Taking back twice is what a daemon does that is killed in between.
        open().take_back(&id, &directory);
    }

    #[test]
    fn a_jail_that_is_not_whole_says_so() {
        let machines = tempfile::tempdir().unwrap();
        let off = Jails::open(None, Accelerator::Kvm, machines.path());
        assert_eq!((off.profile(), off.warnings().len()), (Profile::None, 1));
        assert!(off.prepare("a", machines.path(), &HostShare::default()).unwrap().is_none());
        assert!(jails(machines.path()).warnings()[0].contains("none in this test"));
    }
}
