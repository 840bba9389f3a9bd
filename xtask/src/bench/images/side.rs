//! One of the two daemons: how it is asked, what it costs, and where its files are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, bail};
use rustix::fs::{Advice, fadvise};

use super::super::account::Account;
use super::super::peer;
use crate::daemon::Daemon;
use crate::progress;

/// A daemon that answers.
pub(super) struct Side {
    address: String,
    pid: u32,
    /// Everything that it keeps.
    root: PathBuf,
    pub(super) version: String,
    pub(super) accelerator: Option<String>,
}

/// What one pull cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pull {
    pub(super) wall: Duration,
    pub(super) spent: Account,
    /// What of the disk its files take more than before.
    pub(super) kept_bytes: u64,
}

impl Side {
    pub(super) fn ours(daemon: &Daemon, directory: &Path) -> anyhow::Result<Self> {
        let address = daemon.address();
        // The docker CLI would leave out what Docker has not.
        let text = run(daemon.client().args(["info", "--format", "json"]))?;
        let information: serde_json::Value = serde_json::from_str(&text).context("`info` is no JSON")?;
        let accelerator = information["Berth"]["Accelerator"].as_str().map(str::to_owned);
        let version = information["ServerVersion"].as_str().unwrap_or("unknown").to_owned();
        Ok(Self { address, pid: daemon.id(), root: directory.join("data"), version, accelerator })
    }

    /// `None`, said aloud, if none answers there.
    pub(super) fn peer(address: &str) -> anyhow::Result<Option<Self>> {
        let Some(pid) = peer::listener(address)? else { return Ok(None) };
        let information = information(address)?;
        let version = information["ServerVersion"].as_str().unwrap_or("unknown").to_owned();
        let root = information["DockerRootDir"].as_str().context("dockerd tells its root")?.into();
        Ok(Some(Self { address: address.to_owned(), pid, root, version, accelerator: None }))
    }

    pub(super) fn pull(&self, image: &str) -> anyhow::Result<Pull> {
        let kept_bytes = allocated_bytes(&self.root);
        let before = Account::of(self.pid)?;
        let started = Instant::now();
        run(self.client().args(["pull", "--quiet", image]))?;
        let wall = started.elapsed();
        let spent = Account::of(self.pid)? - before;
        Ok(Pull { wall, spent, kept_bytes: allocated_bytes(&self.root).saturating_sub(kept_bytes) })
    }

    /// Whether it can pull such an image at all, said aloud if not: older ones know no zstd.
    pub(super) fn takes(&self, image: &str) -> bool {
        let tried = self.pull(image).and_then(|_pulled| self.remove(&[image]));
        if let Err(error) = &tried {
            progress::note(format_args!("the peer does not take {image}: {error:#}"));
        }
        tried.is_ok()
    }

    pub(super) fn remove(&self, images: &[&str]) -> anyhow::Result<()> {
        run(self.client().arg("rmi").args(images))?;
        run(self.client().args(["image", "prune", "--force"]))?;
        Ok(())
    }

    /// What a shell in a new container of that image prints.
    pub(super) fn shell(&self, image: &str, script: &str) -> anyhow::Result<String> {
        run(self.client().args(["run", "--rm", image, "bash", "-c", script]))
    }

    /// The host forgets what it read of this side's files, as far as it may: names stay known.
    pub(super) fn forget_contents(&self) -> anyhow::Result<()> {
        for path in files_below(&self.root) {
            let Ok(file) = fs::File::open(&path) else { continue };
            // Only what is on disk can be forgotten.
            rustix::fs::fdatasync(&file).ok();
            fadvise(&file, 0, None, Advice::DontNeed).with_context(|| format!("{}", path.display()))?;
        }
        Ok(())
    }

    /// What of the host's disk our image disks take, and the layers' data behind them; nothing for a peer.
    pub(super) fn image_disks_bytes(&self) -> u64 {
        ["image/layers", "image/disks"].iter().map(|part| allocated_bytes(&self.root.join(part))).sum()
    }

    fn client(&self) -> Command {
        client(&self.address)
    }
}

/// The docker CLI, for both sides alike.
fn client(address: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["--host", address]).env("DOCKER_CONFIG", env::temp_dir().join("berth-bench-no-such"));
    command
}

fn information(address: &str) -> anyhow::Result<serde_json::Value> {
    let text = run(client(address).args(["info", "--format", "json"]))
        .or_else(|_old| run(client(address).args(["info", "--format", "{{json .}}"])))?;
    serde_json::from_str(&text).context("`docker info` is no JSON")
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stdin(Stdio::null()).output().context("cannot start docker, which the bench asks both by")?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _other => {}
            }
        }
    }
    files
}

/// Files that a mount shows a second time are not counted twice: mounts are not entered.
fn allocated_bytes(root: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let Ok(device) = fs::metadata(root).map(|metadata| metadata.dev()) else { return 0 };
    let mut seen = std::collections::HashSet::new();
    let mut blocks = 0;
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != device || !seen.insert(metadata.ino()) {
                continue;
            }
            blocks += metadata.blocks();
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    // stat(2): counted in 512 bytes, whatever the file system's own.
    blocks * 512
}
