//! `bench start`: from typing `run --rm busybox true` to its end, cold, with the daemon's own account of the start.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::figures::Figures;
use super::report::{Section, as_mib_from_kib, conditions};
use crate::daemon::Daemon;
use crate::workspace::Workspace;
use crate::{build, images, progress};

/// What both sides are asked for.
const RUN: [&str; 4] = ["run", "--rm", "busybox", "true"];
/// A start's phases in their order, as the daemon names them.
const PHASES: [&str; 5] = ["image", "machine", "kernel", "agent", "container"];

/// What was measured.
struct Measured {
    runs: u32,
    accelerator: String,
    /// CLI to exit.
    ours: Figures,
    phases: BTreeMap<String, Figures>,
    idle_daemon_kib: u64,
    peer: Option<Peer>,
}

/// A dockerd that answered.
struct Peer {
    version: String,
    figures: Figures,
}

pub(super) fn run(workspace: &Workspace, runs: u32, dockerd: &str) -> anyhow::Result<()> {
    let products = build::ensure(workspace)?;
    let images = images::ensure(workspace)?;
    let directory =
        tempfile::Builder::new().prefix("berth-bench-").tempdir().context("no temporary directory")?;
    let mut daemon = Daemon::start(&products, directory.path())?;
    let idle_daemon_kib = daemon.resident_kib()?;
    let archive = images.join("busybox.tar");
    output(daemon.client().arg("load").arg("-i").arg(&archive))?;
    let accelerator = accelerator(&daemon)?;
    let mut measured = Measured {
        runs,
        accelerator,
        ours: Figures::default(),
        phases: BTreeMap::new(),
        idle_daemon_kib,
        peer: None,
    };
    measured.peer = Peer::find(dockerd, &archive)?;
    progress::heading(format_args!("{runs} times: {}", RUN.join(" ")));
    for round in 0..runs {
        // A B B A: neither side always comes first.
        let peer_first = round % 2 == 1;
        if peer_first {
            measured.run_peer(dockerd)?;
        }
        measured.run_ours(&daemon)?;
        if !peer_first {
            measured.run_peer(dockerd)?;
        }
    }
    daemon.stop()?;
    Section::named("start").write(workspace, &render(&measured))
}

fn render(measured: &Measured) -> String {
    let mut text = conditions(&format!("{} runs, accelerator `{}`", measured.runs, measured.accelerator));
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("a String takes all");
    line(format_args!(""));
    line(format_args!("| `run --rm busybox true` | min / p50 / p90, ms |"));
    line(format_args!("|---|---|"));
    line(format_args!("| berth, CLI to exit | {} |", measured.ours.summary()));
    for phase in PHASES {
        let figures = measured.phases.get(phase).cloned().unwrap_or_default();
        line(format_args!("| – {phase} | {} |", figures.summary()));
    }
    match &measured.peer {
        Some(peer) => line(format_args!(
            "| docker on dockerd {}, CLI to exit | {} |",
            peer.version,
            peer.figures.summary()
        )),
        None => line(format_args!("| docker on dockerd | no dockerd answered in this run |")),
    }
    let idle_mib = as_mib_from_kib(measured.idle_daemon_kib);
    line(format_args!("\nIdle daemon, no container: {idle_mib:.1} MiB resident."));
    text
}

impl Measured {
    fn run_ours(&mut self, daemon: &Daemon) -> anyhow::Result<()> {
        let mut command = daemon.client();
        command.args(["run", "--timing"]).args(&RUN[1..]);
        let (took, output) = timed(&mut command)?;
        self.ours.add(took);
        for (phase, milliseconds) in phases(&String::from_utf8_lossy(&output.stderr)) {
            self.phases.entry(phase).or_default().add_number(milliseconds);
        }
        Ok(())
    }

    fn run_peer(&mut self, dockerd: &str) -> anyhow::Result<()> {
        if let Some(peer) = &mut self.peer {
            let (took, _output) = timed(docker(dockerd).args(RUN))?;
            peer.figures.add(took);
        }
        Ok(())
    }
}

impl Peer {
    /// The dockerd at that address, with the image loaded; `None`, said aloud, if none answers.
    fn find(dockerd: &str, archive: &Path) -> anyhow::Result<Option<Self>> {
        let mut version = docker(dockerd);
        version.args(["version", "--format", "{{.Server.Version}}"]).stderr(Stdio::null());
        let version = match version.output() {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            }
            _ => {
                progress::note(format_args!("no dockerd answers at {dockerd}: measuring without a peer"));
                return Ok(None);
            }
        };
        output(docker(dockerd).arg("load").arg("-i").arg(archive))?;
        Ok(Some(Self { version, figures: Figures::default() }))
    }
}

fn docker(host: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["--host", host]);
    command
}

fn timed(command: &mut Command) -> anyhow::Result<(Duration, Output)> {
    let started = Instant::now();
    let output = output(command)?;
    Ok((started.elapsed(), output))
}

fn output(command: &mut Command) -> anyhow::Result<Output> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} failed: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

/// The lines of `--timing` that are phases: a name and a time in milliseconds.
fn phases(text: &str) -> Vec<(String, f64)> {
    let phase = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, time, unit) = (words.next()?, words.next()?, words.next()?);
        let known = PHASES.contains(&name) && unit == "ms";
        Some((name.to_owned(), time.parse().ok()?)).filter(|_| known)
    };
    text.lines().filter_map(phase).collect()
}

fn accelerator(daemon: &Daemon) -> anyhow::Result<String> {
    let info = output(daemon.client().args(["info", "--format", "json"]))?;
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).context("`info` is no JSON")?;
    Ok(info["Berth"]["Accelerator"].as_str().unwrap_or("unknown").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_phases_are_read_from_the_timing() {
        let text = "PHASE        TIME\nimage              0.8 ms\nkernel         1031.0 ms\ntotal seen      1100.0 ms\n";
        assert_eq!(phases(text), [("image".to_owned(), 0.8), ("kernel".to_owned(), 1031.0)]);
    }
}
