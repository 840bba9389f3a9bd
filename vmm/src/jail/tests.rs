//! Ways out of the jail, each tried from inside: this program executes itself, closes one wall or all of them around
//! itself as `berth-vmm` does, and tries.
//!
//! Each wall is tried alone, so that none can be lost behind another.

use std::ffi::CString;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Pid, getppid, test_kill_process};
use vm_memory::MmapRegion;

use super::*;
use crate::config::files;

/// What the prisoner is told by its environment: the numbers of a wall and of an attempt, and where the outside is.
const WALL: &str = "BERTH_TEST_JAIL_WALL";
const ATTEMPT: &str = "BERTH_TEST_JAIL_ATTEMPT";
const PORT: &str = "BERTH_TEST_JAIL_PORT";
/// How it reports.
const REFUSED: i32 = 40;
const SUCCEEDED: i32 = 41;
const NO_WALL: i32 = 42;

/// Nobody's.
const USER: u32 = 0x7abc_0002;

/// One or several of the jail's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wall {
    /// None: attempts succeed, or they would prove nothing.
    Nothing,
    Namespaces,
    Identity,
    Landlock,
    Filter(ThreadKind),
    Whole,
}

const WALLS: [Wall; 12] = [
    Wall::Nothing,
    Wall::Namespaces,
    Wall::Identity,
    Wall::Landlock,
    Wall::Filter(ThreadKind::Main),
    Wall::Filter(ThreadKind::Signals),
    Wall::Filter(ThreadKind::Control),
    Wall::Filter(ThreadKind::Disks),
    Wall::Filter(ThreadKind::Devices),
    Wall::Filter(ThreadKind::Memory),
    Wall::Filter(ThreadKind::Vcpu),
    Wall::Whole,
];

impl Wall {
    fn close(self) -> Result<(), JailError> {
        let orders = Orders { user: Some(USER), cgroups: Vec::new() };
        match self {
            Self::Nothing => Ok(()),
            Self::Namespaces => separate(&orders).and_then(|()| root::empty()),
            Self::Identity => identity::become_nobody_else(orders.user),
            Self::Landlock => forbid_paths_and_ports(),
            Self::Filter(kind) => filter::close()
                .and_then(|()| enter_thread(kind).map_err(step("filter a thread's system calls"))),
            Self::Whole => close(&orders, &Limits::unlimited_files()),
        }
    }
}

/// A way to reach what is outside, from a directory with the sockets of [`Outside`].
type Attempt = (&'static str, fn(&Surroundings) -> io::Result<()>);

const ATTEMPTS: [Attempt; 15] = [
    ("open a file", |_| File::open("/etc/passwd").map(drop)),
    ("open through a directory", |here| {
        openat(&here.directory, "secret", OFlags::RDONLY, Mode::empty()).map(drop).map_err(Into::into)
    }),
    ("see processes", |_| std::fs::read_dir("/proc/1").map(drop)),
    ("connect over TCP", |here| TcpStream::connect(("127.0.0.1", here.port)).map(drop)),
    ("connect to the daemon", |here| UnixStream::connect(here.path.join("daemon.sock")).map(drop)),
    ("connect to an abstract socket", |here| {
        UnixStream::connect_addr(&abstract_address(&here.path)?).map(drop)
    }),
    ("signal another process", |_| {
        let parent = getppid().unwrap_or(Pid::INIT);
        test_kill_process(parent).map_err(Into::into)
    }),
    ("trace another process", |_| {
        let parent = getppid().unwrap_or(Pid::INIT).as_raw_nonzero().get();
        Ok(nix::sys::ptrace::seize(nix::unistd::Pid::from_raw(parent), nix::sys::ptrace::Options::empty())?)
    }),
    ("mount", |here| {
        let flags = rustix::mount::MountFlags::empty();
        Ok(rustix::mount::mount("none", here.path.join(files::ROOT), "tmpfs", flags, None)?)
    }),
    ("become root", |_| {
        let root = rustix::thread::Uid::ROOT;
        Ok(rustix::thread::set_thread_res_uid(root, root, root)?)
    }),
    ("make a namespace", |_| Ok(unshare(CloneFlags::CLONE_NEWUTS)?)),
    ("execute a program", |_| {
        let shell = CString::new("/bin/sh")?;
        let exit = CString::new(format!("exit {SUCCEEDED}"))?;
        nix::unistd::execv(&shell, &[c"sh".into(), c"-c".into(), exit])?;
        Ok(())
    }),
    ("start a process", |_| Command::new("/bin/true").status().map(drop)),
    ("execute memory", |_| {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        MmapRegion::<()>::build(None, 4096, protection, flags).map(drop).map_err(io::Error::other)
    }),
    ("make a ring", |_| io_uring::IoUring::new(1).map(drop)),
];

/// What an attempt has to work with.
struct Surroundings {
    path: PathBuf,
    directory: File,
    port: u16,
}

/// Named by a directory, which is there once.
fn abstract_address(directory: &Path) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(directory.as_os_str().as_bytes())
}

/// Not a test: the prisoner's part of the tests below. The test runner has a thread of its own beside this one, so that
/// the user namespace, which only a process of one thread gets, is looked at from outside (`vmm/tests/jailed.rs`).
#[test]
#[ignore = "is executed by the other tests"]
fn inmate() {
    let value = |name| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let (Some(wall), Some(attempt)) = (value(WALL), value(ATTEMPT)) else { return };
    let path = std::env::current_dir().unwrap();
    let port = u16::try_from(value(PORT).unwrap()).unwrap();
    let here = Surroundings { directory: File::open(&path).unwrap(), path, port };
    let (_, attempt) = ATTEMPTS[attempt];
    if WALLS[wall].close().is_err() {
        std::process::exit(NO_WALL);
    }
    std::process::exit(if attempt(&here).is_ok() { SUCCEEDED } else { REFUSED });
}

/// What prisoners try to reach.
struct Outside {
    directory: tempfile::TempDir,
    port: u16,
    _listeners: (TcpListener, UnixListener, UnixListener),
}

impl Outside {
    /// `None`, and says so, where these tests cannot prove anything.
    fn new() -> Option<Self> {
        if !has_rights_to_give_up() {
            let thread = std::thread::current();
            eprintln!("skipped: {}: giving up root's rights takes them", thread.name().unwrap_or("a test"));
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path(files::ROOT)).unwrap();
        std::fs::write(path("secret"), "").unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path("secret"), owner_only).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let daemon = UnixListener::bind(path("daemon.sock")).unwrap();
        let hidden = UnixListener::bind_addr(&abstract_address(directory.path()).unwrap()).unwrap();
        Some(Self { directory, port, _listeners: (tcp, daemon, hidden) })
    }

    fn send_to(&self, wall: Wall, attempt: &str) -> ExitStatus {
        let wall = WALLS.iter().position(|known| *known == wall).unwrap();
        let attempt = ATTEMPTS.iter().position(|(name, _)| *name == attempt).expect("a known attempt");
        let mut prisoner = Command::new(std::env::current_exe().unwrap());
        // On one thread, as `berth-vmm` is when it closes the jail.
        prisoner.args(["jail::tests::inmate", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        prisoner
            .env(WALL, wall.to_string())
            .env(ATTEMPT, attempt.to_string())
            .env(PORT, self.port.to_string());
        prisoner.current_dir(self.directory.path()).stdout(std::process::Stdio::null());
        prisoner.status().unwrap()
    }

    #[track_caller]
    fn is_refused(&self, wall: Wall, attempts: &[&str]) {
        for attempt in attempts {
            assert_eq!(self.send_to(wall, attempt).code(), Some(REFUSED), "{attempt}, {wall:?}");
        }
    }

    #[track_caller]
    fn is_killed(&self, wall: Wall, attempts: &[&str]) {
        for attempt in attempts {
            assert_eq!(self.send_to(wall, attempt).signal(), Some(libc::SIGSYS), "{attempt}, {wall:?}");
        }
    }
}

/// A root who is one by name only has few, and most attempts would fail anyway.
fn has_rights_to_give_up() -> bool {
    use rustix::thread::CapabilitySet;
    let needed =
        CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE | CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|own| own.effective.contains(needed))
}

fn names() -> Vec<&'static str> {
    ATTEMPTS.iter().map(|(name, _)| *name).collect()
}

#[test]
fn without_a_jail_everything_that_is_tried_here_works() {
    let Some(outside) = Outside::new() else { return };
    // Hosts may forbid rings to everybody.
    let possible = |attempt: &&str| *attempt != "make a ring" || io_uring::IoUring::new(1).is_ok();
    for attempt in names().into_iter().filter(possible) {
        assert_eq!(outside.send_to(Wall::Nothing, attempt).code(), Some(SUCCEEDED), "{attempt}");
    }
}

#[test]
fn in_the_whole_jail_every_attempt_ends_the_process_or_fails() {
    let Some(outside) = Outside::new() else { return };
    // The process's own filter has what any thread may do, and a machine's start: rings, and no network but its own.
    let possible = ["make a ring"];
    let refused = ["connect to the daemon", "connect to an abstract socket", "execute memory"];
    for attempt in names() {
        let end = outside.send_to(Wall::Whole, attempt);
        if possible.contains(&attempt) {
            continue;
        }
        let stopped =
            end.signal() == Some(libc::SIGSYS) || (refused.contains(&attempt) && end.code() == Some(REFUSED));
        assert!(stopped, "{attempt}: {end:?}");
    }
}

#[test]
fn an_empty_root_and_own_namespaces_have_no_files_no_processes_and_no_network() {
    let Some(outside) = Outside::new() else { return };
    let reached =
        ["open a file", "see processes", "connect over TCP", "connect to the daemon", "execute a program"];
    outside.is_refused(Wall::Namespaces, &reached);
    outside.is_refused(Wall::Namespaces, &["connect to an abstract socket", "start a process"]);
}

#[test]
fn another_user_without_capabilities_touches_nothing_of_the_daemons() {
    let Some(outside) = Outside::new() else { return };
    let touched = ["open through a directory", "connect to the daemon", "signal another process"];
    outside.is_refused(Wall::Identity, &touched);
    outside
        .is_refused(Wall::Identity, &["trace another process", "mount", "become root", "make a namespace"]);
}

#[test]
fn landlock_alone_keeps_files_ports_and_processes_away() {
    let Some(outside) = Outside::new() else { return };
    if !landlock_is_there() {
        eprintln!(
            "skipped: landlock_alone_keeps_files_ports_and_processes_away: this kernel has no Landlock"
        );
        return;
    }
    let reached = ["open a file", "open through a directory", "see processes", "execute a program"];
    outside.is_refused(Wall::Landlock, &reached);
}

/// By its version (landlock_create_ruleset(2)), as the crate sees it.
fn landlock_is_there() -> bool {
    use landlock::{CompatLevel, Compatible};
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
}

#[test]
fn a_thread_of_any_kind_that_opens_executes_or_signals_ends_the_process() {
    let Some(outside) = Outside::new() else { return };
    for kind in ThreadKind::ALL {
        outside
            .is_killed(Wall::Filter(kind), &["open a file", "execute a program", "signal another process"]);
    }
}

#[test]
fn a_thread_of_any_kind_that_starts_or_makes_things_ends_the_process() {
    let Some(outside) = Outside::new() else { return };
    for kind in ThreadKind::ALL {
        outside.is_killed(Wall::Filter(kind), &["start a process", "execute memory", "make a ring"]);
    }
}

#[test]
fn only_devices_make_sockets_and_only_unix_ones() {
    let Some(outside) = Outside::new() else { return };
    for kind in ThreadKind::ALL {
        outside.is_killed(Wall::Filter(kind), &["connect over TCP"]);
        if kind != ThreadKind::Devices {
            outside.is_killed(Wall::Filter(kind), &["connect to the daemon"]);
        }
    }
    outside.is_killed(
        Wall::Filter(ThreadKind::Devices),
        &["trace another process", "mount", "become root", "make a namespace", "open through a directory"],
    );
}

#[test]
fn what_is_no_machine_directory_is_an_error_and_no_weaker_jail() {
    let Some(outside) = Outside::new() else { return };
    std::fs::remove_dir(outside.directory.path().join(files::ROOT)).unwrap();
    assert_eq!(outside.send_to(Wall::Whole, "open a file").code(), Some(NO_WALL));
}
