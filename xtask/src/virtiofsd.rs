//! `cargo xtask virtiofsd`: the program that serves host directories to machines, built once per version and kept in the
//! cache. Debian 12 has none that takes part in what shares need, so it comes from its own source.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;

use crate::cache::{self, Key};
use crate::program;
use crate::progress;
use crate::workspace::Workspace;

/// The program's and the crate's name.
pub(crate) const NAME: &str = "virtiofsd";
const VERSION: &str = "1.14.0";
/// Counts up when the steps themselves change.
const RECIPE_VERSION: &str = "1";

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    println!("{}", ensure(workspace)?.display());
    Ok(())
}

/// The program's path, built first if the cache does not hold it.
pub(crate) fn ensure(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let key = Key::new().with("recipe", RECIPE_VERSION.as_bytes()).with("version", VERSION.as_bytes());
    let directory = workspace.cache(NAME).join(key.digits());
    let installed = directory.join("bin").join(NAME);
    if installed.exists() {
        return Ok(installed);
    }
    let _lock = cache::lock(&directory, NAME)?;
    if !installed.exists() {
        let started = Instant::now();
        progress::heading(format_args!("{NAME} {VERSION}: some minutes, once"));
        let build = directory.join("build");
        let mut cargo = workspace.cargo();
        cargo.args(["install", NAME, "--version", VERSION, "--force"]);
        cargo.arg("--root").arg(&directory).arg("--target-dir").arg(&build);
        // Its authors link everything at once, which takes longer than all the rest and saves nothing that is measurable.
        cargo.env("CARGO_PROFILE_RELEASE_LTO", "off");
        program::run(&mut cargo)?;
        fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
        progress::note(format_args!("built in {}", progress::seconds(started.elapsed())));
    }
    Ok(installed)
}
