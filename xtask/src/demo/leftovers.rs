//! What a run must not leave on the host: processes, mounts, network interfaces, files.
//!
//! Whatever a daemon starts or mounts names its directory, which nobody else does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};

/// A process that was told to end is given this long to be gone.
const GRACE: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The host as it was before.
pub(super) struct HostState {
    interfaces: BTreeSet<String>,
}

impl HostState {
    pub(super) fn read() -> anyhow::Result<Self> {
        Ok(Self { interfaces: interfaces()? })
    }

    /// Ends what should have ended by itself, and then complains of it.
    ///
    /// # Errors
    /// When anything that names `directory` is still there, or the daemon's run-time files are.
    pub(super) fn check_nothing_left(&self, directory: &Path) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for (pid, command) in remaining_processes(directory)? {
            found.push(format!("process {}: {command}", pid.as_raw_nonzero()));
            // It may just have ended; either way it is in the report.
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
        found.extend(mounts(directory)?.into_iter().map(|mount| format!("mount {mount}")));
        let new_interfaces = interfaces()?;
        let interfaces = new_interfaces.difference(&self.interfaces);
        found.extend(interfaces.map(|interface| format!("interface {interface}")));
        let files = run_time_files(directory);
        found.extend(files.iter().map(|file| format!("file {}", file.display())));
        if !found.is_empty() {
            bail!("left behind:\n  {}", found.join("\n  "));
        }
        Ok(())
    }
}

fn interfaces() -> anyhow::Result<BTreeSet<String>> {
    let entries = fs::read_dir("/sys/class/net").context("cannot list /sys/class/net")?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Waits for the last ones to go; gives those that do not.
fn remaining_processes(directory: &Path) -> anyhow::Result<Vec<(Pid, String)>> {
    let deadline = Instant::now() + GRACE;
    loop {
        let found = processes(directory)?;
        if found.is_empty() || Instant::now() >= deadline {
            return Ok(found);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Processes whose command line, working directory or open files lie in `directory`.
fn processes(directory: &Path) -> anyhow::Result<Vec<(Pid, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let entry = entry?;
        let raw = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = raw.and_then(Pid::from_raw) else { continue };
        // A process may end while it is looked at: what cannot be read is not there.
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if command.contains(&*directory.to_string_lossy()) || uses_files(&entry.path(), directory) {
            found.push((pid, command));
        }
    }
    Ok(found)
}

fn uses_files(process: &Path, directory: &Path) -> bool {
    let inside = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(directory));
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    inside(process.join("cwd")) || descriptors.map(|entry| entry.path()).any(inside)
}

/// The mount points of this namespace that name `directory` (proc_pid_mountinfo(5)).
fn mounts(directory: &Path) -> anyhow::Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let name = directory.to_string_lossy();
    Ok(table.lines().filter(|line| line.contains(&*name)).map(str::to_owned).collect())
}

/// The lock of the run-time directory stays: a daemon that removed it could take it from the next one.
const LOCK: &str = "run/berthd.lock";

/// The socket and the pid file, and every other file that is still in the run-time directory.
fn run_time_files(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        ["berthd.sock", "berthd.pid"].map(|name| directory.join(name)).into_iter().collect();
    found.retain(|path| path.exists());
    let mut pending = vec![directory.join("run")];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found.retain(|path| *path != directory.join(LOCK));
    found
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_names_the_directory_is_found_and_ended() {
        let directory = tempfile::tempdir().unwrap();
        let before = HostState::read().unwrap();
        before.check_nothing_left(directory.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo up; read end", "sh"]).arg(directory.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Its command line can be read from when it runs, which may be later than spawn says.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        let report = before.check_nothing_left(directory.path()).unwrap_err().to_string();
        assert!(report.contains(&format!("process {}: sh", child.id())), "{report}");
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_process_that_works_in_the_directory_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("60").current_dir(directory.path()).spawn().unwrap();
        let found = processes(directory.path()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_forgotten_socket_is_found_however_deep() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("run/machines/1");
        fs::create_dir_all(&deep).unwrap();
        fs::write(directory.path().join(LOCK), "").unwrap();
        assert!(run_time_files(directory.path()).is_empty());
        fs::write(deep.join("control.sock"), "").unwrap();
        fs::write(directory.path().join("berthd.pid"), "1").unwrap();
        assert_eq!(run_time_files(directory.path()).len(), 2);
    }
}
