//! `cargo xtask agent`: the agent as a static program, and the initramfs that is nothing but it.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use crate::cpio::Archive;
use crate::products::{self, Place};
use crate::progress;
use crate::workspace::Workspace;

/// The initramfs inside the target directory.
const INITRAMFS: &str = "guest/initramfs.cpio";
/// Linux opens this for init's standard streams before any file system is mounted.
const CONSOLE: (u32, u32) = (5, 1);

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    println!("{}", ensure(workspace)?.display());
    Ok(())
}

/// The path of the up-to-date initramfs.
pub(crate) fn ensure(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    progress::heading("guest agent and initramfs");
    let agent = products::static_program(workspace, "berth-agent", Place::Guest)?;
    let program = fs::read(&agent).with_context(|| format!("cannot read {}", agent.display()))?;
    let path = workspace.target(INITRAMFS);
    products::replace(&path, &initramfs(&program))?;
    progress::note(format_args!("{} KiB in {}", program.len() / 1024, path.display()));
    Ok(path)
}

/// Uncompressed: the kernel copies it faster than it could inflate it.
fn initramfs(agent: &[u8]) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.directory("dev", 0o755);
    archive.character_device("dev/console", 0o600, CONSOLE);
    archive.file("init", 0o755, agent);
    archive.finish()
}
