//! The `virtiofsd` process behind a machine's shares: started with no more than it needs, and found by a later daemon.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::SOCKET;
use crate::machine::process::start_time;

/// [`Record`] as JSON, and what the server says.
const RECORD: &str = "shares.json";
const LOG: &str = "shares.log";

/// Requests that are worked on at the same time: more than processors wait for disks.
const THREADS: usize = 8;

/// The most descriptors that a server is given, if the host gives so many.
const MAX_DESCRIPTORS: u64 = 1_000_000;
/// What it keeps for itself: for each region of memory that a machine may have, for its threads, and some.
const OWN_DESCRIPTORS: u64 = 640;

/// How the server is told to be.
///
/// It makes namespaces of its own for mounts, processes and networks without being told. Besides:
///
/// - a filter of system calls of its own.
/// - no file handles: with the right to open any file by its number, a server that was taken over would not be confined
///   to what is shared. It holds a descriptor of each file that the guest knows instead.
/// - no right to make devices: a guest must not leave a way to the host's disks where the host's users find it.
/// - who writes to a file loses its set-id bits and capabilities without being told, and without asking before each
///   write whether there are any.
/// - attributes and names are looked up anew after a second, and files' bytes with each opening: what the host changes
///   is seen.
const OPTIONS: [&str; 8] = [
    "--seccomp=kill",
    "--inode-file-handles=never",
    "--modcaps=-mknod",
    "--killpriv-v2",
    "--cache=auto",
    "--xattr",
    "--announce-submounts",
    "--log-level=error",
];

/// The process that this daemon, or an earlier one, started.
#[derive(Debug)]
pub(super) struct Server {
    record: Record,
    /// Only if this daemon started it; reaped by the runtime.
    child: Option<Child>,
    log: PathBuf,
}

/// A process that cannot be mistaken for another one that got its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: u32,
    /// In the kernel's ticks since boot (proc(5)).
    started: u64,
}

/// Of a server, for all that it opens.
fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).maximum.map_or(MAX_DESCRIPTORS, |most| most.min(MAX_DESCRIPTORS))
}

/// How many files a guest may know, for each of which its server holds a descriptor. As many are left for those that the
/// guest has open, and for what the server has yet to be told to forget.
pub(super) fn max_known_files() -> u64 {
    (descriptors().saturating_sub(OWN_DESCRIPTORS) / 2).max(1)
}

impl Server {
    pub(super) fn spawn(program: &Path, directory: &Path, tree: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(directory.join(SOCKET))?;
        let log = directory.join(LOG);
        let mut command = Command::new(program);
        command.args(["--fd=0", "--shared-dir"]).arg(tree).args(OPTIONS);
        command.arg(format!("--thread-pool-size={THREADS}"));
        command.arg(format!("--rlimit-nofile={}", descriptors()));
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(File::create(&log)?);
        // It outlives this daemon, whatever a terminal sends to the daemon's group.
        command.process_group(0).env_clear().current_dir("/");
        let child = command.spawn()?;
        let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
        let record = Record { pid, started: start_time(pid).ok_or(io::ErrorKind::NotFound)? };
        let json = serde_json::to_vec(&record).expect("plain data is always JSON");
        // Without it there is no machine yet either, and the server ends with the state directory.
        fs::write(directory.join(RECORD), json)?;
        Ok(Self { record, child: Some(child), log })
    }

    pub(super) fn find(directory: &Path) -> Option<Self> {
        let json = fs::read(directory.join(RECORD)).ok()?;
        let record: Record = serde_json::from_slice(&json).ok()?;
        let server = Self { record, child: None, log: directory.join(LOG) };
        server.lives().then_some(server)
    }

    pub(super) fn lives(&self) -> bool {
        start_time(self.record.pid) == Some(self.record.started)
    }

    /// Its processes in its own namespaces. What began as one process waits for them.
    pub(super) fn children(&self) -> Vec<u32> {
        let pid = self.record.pid;
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
    }

    /// Puts all of it into control groups.
    pub(super) fn join(&self, groups: &[PathBuf]) -> io::Result<()> {
        for group in groups {
            for pid in std::iter::once(self.record.pid).chain(self.children()) {
                fs::write(group.join("cgroup.procs"), pid.to_string())?;
            }
        }
        Ok(())
    }

    /// What it said, if it has ended.
    pub(super) fn end(&mut self) -> Option<String> {
        let has_ended = match &mut self.child {
            Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
            None => !self.lives(),
        };
        has_ended.then(|| {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            last.map_or_else(String::new, |line| format!(": {line}"))
        })
    }
}
