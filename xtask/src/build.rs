//! `cargo xtask build`: all products in release mode, and where they are.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::products::{self, Place};
use crate::program;
use crate::progress;
use crate::workspace::Workspace;
use crate::{agent, kernel, packages, virtiofsd};

/// The packages that run on the host, once each.
const HOST_PACKAGES: [&str; 2] = ["berth", "berthd"];
/// The one that runs once for each machine.
const MONITOR: &str = "berth-vmm";
/// What lies beside them.
const KERNEL: &str = "vmlinux";
const INITRAMFS: &str = "initramfs.cpio";

/// Everything that is needed to run containers.
#[derive(Debug)]
pub(crate) struct Products {
    /// Holds `berth`, `berthd`, `berth-vmm` and `virtiofsd`.
    pub(crate) programs: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

impl Products {
    /// Those of a directory that a build of [`ensure`] filled.
    ///
    /// # Errors
    /// Something is missing there.
    pub(crate) fn in_directory(programs: &Path) -> anyhow::Result<Self> {
        // Daemons are started elsewhere.
        let programs =
            programs.canonicalize().with_context(|| format!("cannot find {}", programs.display()))?;
        for name in HOST_PACKAGES.into_iter().chain([MONITOR, KERNEL, INITRAMFS, virtiofsd::NAME]) {
            let path = programs.join(name);
            path.metadata().with_context(|| format!("cannot find {}", path.display()))?;
        }
        Ok(Self { kernel: programs.join(KERNEL), initramfs: programs.join(INITRAMFS), programs })
    }
}

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let Products { programs, kernel, initramfs } = ensure(workspace)?;
    println!("programs   {}", programs.display());
    println!("kernel     {}", kernel.display());
    println!("initramfs  {}", initramfs.display());
    Ok(())
}

/// Builds what is missing or out of date, Debian packages included.
pub(crate) fn ensure(workspace: &Workspace) -> anyhow::Result<Products> {
    packages::ensure()?;
    let kernel = kernel::ensure(workspace)?;
    let share_server = virtiofsd::ensure(workspace)?;
    let initramfs = agent::ensure(workspace)?;
    progress::heading("programs, in release mode");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release"]).args(HOST_PACKAGES.map(|package| format!("--package={package}")));
    program::run(&mut cargo)?;
    let programs = workspace.target("release");
    monitor(workspace)?;
    link_beside(&programs, KERNEL, &kernel)?;
    link_beside(&programs, INITRAMFS, &initramfs)?;
    link_beside(&programs, virtiofsd::NAME, &share_server)?;
    Ok(Products { programs, kernel, initramfs })
}

/// The machine monitor in release mode, beside the other programs.
pub(crate) fn monitor(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let built = products::static_program(workspace, MONITOR, Place::Host)?;
    let installed = workspace.target("release").join(MONITOR);
    let unfinished = installed.with_extension("new");
    let copied = fs::create_dir_all(workspace.target("release"))
        .and_then(|()| fs::copy(&built, &unfinished))
        .and_then(|_bytes| fs::rename(&unfinished, &installed));
    copied.with_context(|| format!("cannot copy {} to {}", built.display(), installed.display()))?;
    Ok(installed)
}

/// `berthd` and `berth doctor` look beside themselves: what was built starts without flags.
fn link_beside(programs: &Path, name: &str, target: &Path) -> anyhow::Result<()> {
    let link = programs.join(name);
    if fs::read_link(&link).is_ok_and(|present| present == target) {
        return Ok(());
    }
    let unfinished = programs.join(format!("{name}.new"));
    let linked = fs::remove_file(&unfinished)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        .and_then(|()| symlink(target, &unfinished))
        .and_then(|()| fs::rename(&unfinished, &link));
    linked.with_context(|| format!("cannot link {} to {}", link.display(), target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_follows_its_product() {
        let programs = tempfile::tempdir().unwrap();
        for product in ["/old", "/new", "/new"] {
            link_beside(programs.path(), "vmlinux", Path::new(product)).unwrap();
            assert_eq!(fs::read_link(programs.path().join("vmlinux")).unwrap(), Path::new(product));
        }
    }
}
