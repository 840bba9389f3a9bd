//! `cargo xtask demo`: from a fresh checkout to a container in its own machine, and back to nothing.
//!
//! Builds everything, starts a daemon of its own below a temporary directory, runs two containers and then
//! proves that nothing stays behind. It uses the programs as a user would, by their command lines only.

mod leftovers;

use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use crate::build;
use crate::daemon::Daemon;
use crate::images;
use crate::program;
use crate::progress;
use crate::workspace::Workspace;

use leftovers::HostState;

/// Prints what a container sees of its surroundings: a kernel, processes and a cgroup of its own.
const LOOK_AROUND: &str = "echo \"kernel:   $(uname -sr)\"; echo \"hostname: $(hostname)\"; \
     echo \"cgroup:   $(cat /proc/self/cgroup)\"; echo processes:; ps -o pid,comm";

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let products = build::ensure(workspace)?;
    let images = images::ensure(workspace)?;

    let started = Instant::now();
    let before = HostState::read()?;
    let directory = tempfile::Builder::new()
        .prefix("berth-demo-")
        .tempdir()
        .context("cannot create a temporary directory")?;
    let mut daemon = Daemon::start(&products, directory.path())?;
    let shown = show(&daemon, &images);
    progress::heading("stop everything, and look for what is left behind");
    let stopped = daemon.stop();
    let clean = before.check_nothing_left(directory.path());
    if shown.is_err() || stopped.is_err() || clean.is_err() {
        daemon.print_log();
    }
    directory.close().context("cannot remove the demo's directory")?;
    shown.and(stopped).and(clean)?;
    let took = progress::seconds(started.elapsed());
    progress::note(format_args!("no process, mount, interface or file is left; the demo took {took}"));
    Ok(())
}

fn show(daemon: &Daemon, images: &Path) -> anyhow::Result<()> {
    progress::heading("load the images");
    for image in ["hello-world.tar", "busybox.tar"] {
        program::run(daemon.client().arg("load").arg("-i").arg(images.join(image)))?;
    }
    progress::heading("berth run --rm --timing hello-world");
    program::run(daemon.client().args(["run", "--rm", "--timing", "hello-world"]))?;
    progress::heading("berth run --rm busybox: a look around in a container");
    program::run(daemon.client().args(["run", "--rm", "busybox", "sh", "-c", LOOK_AROUND]))?;
    let host = rustix::system::uname();
    let release = host.release().to_string_lossy();
    progress::note(format_args!("the host's kernel, for comparison: Linux {release}"));
    Ok(())
}
