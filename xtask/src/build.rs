//! `cargo xtask build`: all products in release mode, and where they are.

use std::path::PathBuf;

use crate::program;
use crate::progress;
use crate::workspace::Workspace;
use crate::{agent, kernel, packages};

/// The packages that run on the host.
const HOST_PACKAGES: [&str; 3] = ["berth", "berthd", "berth-vmm"];

/// Everything that is needed to run containers.
#[derive(Debug)]
pub(crate) struct Products {
    /// Holds `berth`, `berthd` and `berth-vmm`.
    pub(crate) programs: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
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
    let initramfs = agent::ensure(workspace)?;
    progress::heading("programs, in release mode");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release"]).args(HOST_PACKAGES.map(|package| format!("--package={package}")));
    program::run(&mut cargo)?;
    Ok(Products { programs: workspace.target("release"), kernel, initramfs })
}
