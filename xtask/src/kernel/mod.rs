//! `cargo xtask kernel`: the guest kernel as an uncompressed ELF file, built once per recipe and kept in the cache.
//!
//! The cache key covers the source's version, the configuration and the patches. A second checkout with the
//! same three finds the kernel there; a second build at the same time waits for the first.

mod source;

mod fragment;

mod build;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

use crate::cache::{self, Key};
use crate::progress;
use crate::workspace::Workspace;

use build::Recipe;
use fragment::Fragment;
use source::Source;

/// Counts up when the steps themselves change, so that a kernel built the old way is not found.
const RECIPE_VERSION: &str = "1";

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    println!("{}", ensure(workspace)?.display());
    Ok(())
}

/// The path of the kernel that belongs to this checkout, built first if the cache does not hold it.
pub(crate) fn ensure(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let recipe = read_recipe(workspace)?;
    let directory = workspace.cache("kernel").join(key(&recipe)?);
    let kernel = directory.join("vmlinux");
    if kernel.exists() {
        return Ok(kernel);
    }
    let _lock = cache::lock(&directory, "kernel")?;
    if !kernel.exists() {
        let started = Instant::now();
        progress::heading(format_args!("guest kernel {}: several minutes, once", recipe.source.version));
        build::build(&recipe, &directory)?;
        progress::note(format_args!("built in {}", progress::seconds(started.elapsed())));
    }
    Ok(kernel)
}

/// The same path, if the cache holds it already.
pub(crate) fn cached(workspace: &Workspace) -> anyhow::Result<Option<PathBuf>> {
    let directory = workspace.cache("kernel").join(key(&read_recipe(workspace)?)?);
    Ok(Some(directory.join("vmlinux")).filter(|kernel| kernel.exists()))
}

fn read_recipe(workspace: &Workspace) -> anyhow::Result<Recipe> {
    let path = workspace.path("kernel-config/berth.config");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let fragment = Fragment::parse(&text).with_context(|| format!("in {}", path.display()))?;
    let patches = read_patches(&workspace.path("kernel-config/patches"))?;
    Ok(Recipe { source: Source::installed()?, fragment, patches })
}

/// The patches in the order of their names, which is the order in which they apply.
fn read_patches(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut patches = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            patches.push(path);
        }
    }
    patches.sort();
    Ok(patches)
}

fn key(recipe: &Recipe) -> anyhow::Result<String> {
    let mut key = Key::new()
        .with("recipe", RECIPE_VERSION.as_bytes())
        .with("source", recipe.source.version.as_bytes())
        .with("config", recipe.fragment.normalized().as_bytes());
    for patch in &recipe.patches {
        let name = patch.file_name().unwrap_or_default().to_string_lossy();
        let content = fs::read(patch).with_context(|| format!("cannot read {}", patch.display()))?;
        key = key.with(&name, &content);
    }
    Ok(key.digits())
}
