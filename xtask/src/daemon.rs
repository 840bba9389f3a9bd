//! A daemon for the length of one verb: everything it owns lies below one directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};

use crate::build::Products;
use crate::{program, progress};

/// Opening a database and two directories takes milliseconds; a loaded machine gets its time.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Stopping ends containers in their own time first.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// So much of the daemon's log is shown when the demo fails.
const SHOWN_LINES: usize = 30;

/// A running `berthd`. Dropping it ends it too, without manners.
pub(crate) struct Daemon {
    child: Child,
    client: PathBuf,
    directory: PathBuf,
}

impl Daemon {
    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(products: &Products, directory: &Path) -> anyhow::Result<Self> {
        Self::start_in(products, directory, None)
    }

    /// The same in the network namespace of that name.
    pub(crate) fn start_in(
        products: &Products,
        directory: &Path,
        namespace: Option<&str>,
    ) -> anyhow::Result<Self> {
        // The networks of a developer's machine stay as they are.
        Self::start_with(products, directory, namespace, &["--bridge", "none"])
    }

    /// The same with these flags instead of having no networks.
    pub(crate) fn start_with(
        products: &Products,
        directory: &Path,
        namespace: Option<&str>,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        progress::heading("start berthd");
        let log_path = log_path(directory);
        let log = File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
        let mut command = program::command_in(namespace, products.programs.join("berthd"));
        command.arg("--data-root").arg(directory.join("data"));
        command.arg("--exec-root").arg(directory.join("run"));
        command.arg("--pidfile").arg(directory.join("berthd.pid"));
        command.arg("-H").arg(address(directory));
        command.arg("--kernel").arg(&products.kernel);
        command.arg("--initramfs").arg(&products.initramfs);
        command.arg("--vmm").arg(products.programs.join("berth-vmm"));
        command.args(flags);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start berthd")?;
        let client = products.programs.join("berth");
        let mut daemon = Self { child, client, directory: directory.to_path_buf() };
        if let Err(error) = daemon.wait_until_it_answers() {
            daemon.print_log();
            return Err(error);
        }
        Ok(daemon)
    }

    fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for berthd")? {
                bail!("berthd ended at its start with {status}");
            }
            let mut version = self.client();
            version.arg("version").stdout(Stdio::null()).stderr(Stdio::null());
            if version.status().context("cannot start berth")?.success() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("berthd does not answer after {}", progress::seconds(START_DEADLINE));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The command-line client, speaking to this daemon.
    pub(crate) fn client(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("-H").arg(address(&self.directory));
        command
    }

    /// What clients call its socket.
    pub(crate) fn address(&self) -> String {
        address(&self.directory).to_string_lossy().into_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the daemon has of the host's memory.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("{path} tells no resident size"))
    }

    /// Asks the daemon to end, as a service manager would.
    ///
    /// # Errors
    /// When it does not end in time, or not with success.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        rustix::process::kill_process(self.pid(), Signal::TERM).context("cannot signal berthd")?;
        match self.wait(STOP_DEADLINE)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("berthd was asked to end and did so with {status}"),
            None => bail!("berthd does not end within {}", progress::seconds(STOP_DEADLINE)),
        }
    }

    /// The last lines of what the daemon had to say.
    pub(crate) fn print_log(&self) {
        let text = fs::read_to_string(log_path(&self.directory)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        progress::note("berthd's last lines:");
        for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            progress::note(line);
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.child.try_wait().context("cannot wait for berthd")?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing can be done here if it fails; the check for leftovers reports it.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("berthd.log")
}

fn address(directory: &Path) -> OsString {
    let mut address = OsString::from("unix://");
    address.push(directory.join("berthd.sock"));
    address
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_daemon_that_ends_at_its_start_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/bin/false", directory.path().join("berthd")).unwrap();
        symlink("/bin/false", directory.path().join("berth")).unwrap();
        let products = Products {
            programs: directory.path().to_path_buf(),
            kernel: "kernel".into(),
            initramfs: "initramfs".into(),
        };
        let started = Instant::now();
        let error = Daemon::start(&products, directory.path()).err().unwrap().to_string();
        assert_eq!(error, "berthd ended at its start with exit status: 1");
        assert!(started.elapsed() < START_DEADLINE);
    }
}
