//! `bench images`: pulling from a real registry beside dockerd, what it costs, and what a container then reads.
//!
//! Both daemons pull the same images from the same docker-registry by the same client, one after the other. A peer that
//! lives in a network namespace of its own, as a second dockerd on a host should, names it: the registry and our daemon
//! are started there too.

mod reading;

mod registry;

mod report;

mod side;

mod variant;

use std::path::Path;

use anyhow::{Context, bail};

use super::report::Section;
use crate::daemon::Daemon;
use crate::workspace::Workspace;
use crate::{build, images, packages, progress};

use reading::Reading;
use registry::Registry;
use report::{Measured, Subject};
use side::Side;

/// What is pulled, by the names of the archives, with what it is.
const SUBJECTS: [(&str, &str); 3] = [
    ("debian", "Debian, one layer, gzip"),
    ("debian-zstd", "Debian, one layer, zstd"),
    ("layered", "ten layers, gzip"),
];
/// Has files to read.
const READ_FROM: &str = "debian";
/// A machine is started for each.
const READING_RUNS: u32 = 3;

pub(super) fn run(
    workspace: &Workspace,
    runs: u32,
    dockerd: &str,
    namespace: Option<&str>,
) -> anyhow::Result<()> {
    packages::ensure()?;
    let products = build::ensure(workspace)?;
    let archives = images::ensure_all(workspace)?;
    let directory =
        tempfile::Builder::new().prefix("berth-bench-").tempdir().context("no temporary directory")?;
    let registry = Registry::start(directory.path(), namespace)?;
    let mut daemon = Daemon::start_in(&products, directory.path(), namespace)?;
    let ours = Side::ours(&daemon, directory.path())?;
    let peer = Side::peer(dockerd)?;
    let mut measured = Measured::new(runs, READING_RUNS, &ours, peer.as_ref())?;
    for (name, what) in SUBJECTS {
        let archive = archives.join(format!("{name}.tar"));
        if !archive.exists() {
            progress::note(format_args!("skipped: {what}: there is no {}", archive.display()));
            continue;
        }
        let image = registry.fill(&archive, name)?;
        let other = registry.fill_with_variant(&archive, name, directory.path())?;
        let mut subject = Subject::new(what, &archive)?;
        ours.pull(&image)?;
        subject.image_disk_bytes = ours.image_disks_bytes();
        ours.remove(&[&image])?;
        let peer = peer.as_ref().filter(|peer| peer.takes(&image));
        pulls(&mut subject, runs, &image, &other, &ours, peer)?;
        measured.subjects.push(subject);
    }
    if archives.join(format!("{READ_FROM}.tar")).exists() {
        let image = registry.image(READ_FROM);
        measured.reading = Some(reading(&image, &ours, peer.as_ref())?);
    }
    daemon.stop()?;
    Section::named("images").write(workspace, &measured.render())
}

/// A B B A: neither side always comes first.
fn pulls(
    subject: &mut Subject,
    runs: u32,
    image: &str,
    other: &str,
    ours: &Side,
    peer: Option<&Side>,
) -> anyhow::Result<()> {
    progress::heading(format_args!("{runs} times: pull {image}"));
    for round in 0..runs {
        let mut order = [Some((ours, &mut subject.ours)), peer.map(|peer| (peer, &mut subject.peer))];
        if round % 2 == 1 {
            order.reverse();
        }
        for (side, figures) in order.into_iter().flatten() {
            let cold = side.pull(image)?;
            figures.add(&cold);
            // Its layers are here already: what remains is the config, the manifest, and a disk where disks are made.
            figures.from_cached_layers.add(side.pull(other)?.wall);
            side.remove(&[image, other])?;
        }
    }
    Ok(())
}

fn reading(image: &str, ours: &Side, peer: Option<&Side>) -> anyhow::Result<[Option<Reading>; 2]> {
    progress::heading(format_args!("{READING_RUNS} times: a container of {image} reads"));
    let mut readings = [Some(Reading::default()), peer.map(|_| Reading::default())];
    let sides = [Some(ours), peer];
    for side in sides.into_iter().flatten() {
        side.pull(image)?;
    }
    for round in 0..READING_RUNS {
        let mut order = [0, 1];
        if round % 2 == 1 {
            order.reverse();
        }
        for which in order {
            if let (Some(side), Some(reading)) = (sides[which], &mut readings[which]) {
                reading.run(side, image)?;
            }
        }
    }
    for side in sides.into_iter().flatten() {
        side.remove(&[image])?;
    }
    Ok(readings)
}

/// The size of what an archive's layers unpack to, as tar archives.
fn unpacked_bytes(archive: &Path) -> anyhow::Result<u64> {
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let layout = variant::Layout::unpack(archive, &directory)?;
    let sizes: anyhow::Result<Vec<u64>> =
        layout.layers()?.iter().map(|layer| variant::inflated_bytes(layer)).collect();
    let total = sizes?.iter().sum();
    if total == 0 {
        bail!("{} has no layers", archive.display());
    }
    Ok(total)
}
