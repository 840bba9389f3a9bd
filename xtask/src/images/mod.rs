//! `cargo xtask images`: images as archives that `docker load` and `berth load` take.
//!
//! No registry is asked: what is in them comes from this checkout, from installed Debian packages and, for the Debian
//! image, from where apt gets its packages. The same input gives the same bytes, so an image keeps its id for as long as
//! its content stays the same. The demo images are made each time; the large ones, for tests and benchmarks, are made
//! once and kept in the cache.

mod hello_world;

mod busybox;

mod reaper;

mod debian;

mod layered;

mod installed;

mod servers;

pub(crate) mod workload;

pub(crate) mod traffic;

mod archive;

mod layer;

mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

use crate::apt;
use crate::cache::Key;
use crate::products;
use crate::progress;
use crate::workspace::Workspace;

use archive::Image;

/// Counts up when the recipes of large images change, so that an image made the old way is not found.
const RECIPE_VERSION: &str = "2";

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    println!("{}", ensure_all(workspace)?.display());
    Ok(())
}

/// The directory with one up-to-date `NAME.tar` per demo image.
pub(crate) fn ensure(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    progress::heading("demo images");
    let directory = workspace.target("images");
    for image in [hello_world::image(workspace)?, busybox::image()?] {
        let path = directory.join(format!("{}.tar", image.name));
        products::replace(&path, &image.archive()?)?;
        progress::note(path.display());
    }
    Ok(directory)
}

/// The archive of the image that the benchmark of networks runs.
pub(crate) fn ensure_traffic(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let path = workspace.target("images").join(format!("{}.tar", traffic::NAME));
    products::replace(&path, &traffic::image(workspace)?.archive()?)?;
    Ok(path)
}

/// The same directory, in which `reaper.tar`, `layered.tar` and, where they can be made, `debian.tar`, `debian-zstd.tar` and `servers.tar`
/// are too.
pub(crate) fn ensure_all(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let directory = ensure(workspace)?;
    let reaper = reaper::image(workspace)?;
    products::replace(&directory.join(format!("{}.tar", reaper.name)), &reaper.archive()?)?;
    progress::heading("large images");
    let layered = Key::new().with("recipe", RECIPE_VERSION.as_bytes()).with("busybox", &busybox::layer()?);
    let large = workspace.cache("images").join(layered.digits());
    keep(&large, &directory, &[layered::NAME], || one_each(&[layered::image()?]))?;

    let codename = apt::codename()?;
    let debian = Key::new().with("recipe", RECIPE_VERSION.as_bytes()).with("codename", codename.as_bytes());
    let large = workspace.cache("images").join(debian.digits());
    let kept = keep(&large, &directory, &debian::NAMES, || one_each(&debian::images(&codename)?));
    or_skipped(kept, "the Debian image", &directory, &debian::NAMES)?;

    let kept = above_debian(workspace, &directory, servers::NAME, &servers::INPUTS, servers::images);
    or_skipped(kept, "the images of servers", &directory, &[servers::NAME])?;
    Ok(directory)
}

/// The archive of the image that the benchmark of shares and disks runs.
///
/// # Errors
/// It cannot be made, for instance because we are not root.
pub(crate) fn ensure_workload(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let directory = ensure_all(workspace)?;
    above_debian(workspace, &directory, workload::NAME, &workload::INPUTS, workload::images)?;
    Ok(directory.join(format!("{}.tar", workload::NAME)))
}

/// The files of that archive below `root`.
///
/// # Errors
/// There is no such archive, or we are not root.
pub(crate) fn unpack_workload(archive: &Path, root: &Path) -> anyhow::Result<()> {
    let content = fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    archive::unpack(&content, root)
}

/// One archive of images that are above the Debian image of that directory.
fn above_debian(
    workspace: &Workspace,
    directory: &Path,
    name: &'static str,
    inputs: &[(&str, &str)],
    make: impl FnOnce(&Path) -> anyhow::Result<Vec<Image>>,
) -> anyhow::Result<()> {
    let key = Key::new().with("recipe", RECIPE_VERSION.as_bytes());
    let key = key.with("codename", apt::codename()?.as_bytes());
    let key = inputs.iter().fold(key, |key, (name, text)| key.with(name, text.as_bytes()));
    let cache = workspace.cache("images").join(key.digits());
    let debian = directory.join(format!("{}.tar", debian::NAMES[0]));
    keep(&cache, directory, &[name], || Ok(vec![(name, archive::archive(&make(&debian)?)?)]))
}

/// Tests that want what could not be made say that they are skipped; everything else goes on.
fn or_skipped(kept: anyhow::Result<()>, what: &str, directory: &Path, names: &[&str]) -> anyhow::Result<()> {
    let Err(error) = kept else { return Ok(()) };
    progress::note(format_args!("skipped: {what}: {error:#}"));
    names.iter().try_for_each(|name| remove_link(&directory.join(format!("{name}.tar"))))
}

/// An archive's name and content.
type Archive = (&'static str, Vec<u8>);

fn one_each(images: &[Image]) -> anyhow::Result<Vec<Archive>> {
    images.iter().map(|image| Ok((image.name, image.archive()?))).collect()
}

/// Makes the archives of these names unless the cache has them, and links them into `directory`.
fn keep(
    cache: &Path,
    directory: &Path,
    names: &[&str],
    make: impl FnOnce() -> anyhow::Result<Vec<Archive>>,
) -> anyhow::Result<()> {
    let archive = |name: &str| format!("{name}.tar");
    if !names.iter().all(|name| cache.join(archive(name)).exists()) {
        let started = Instant::now();
        for (name, content) in make()? {
            products::replace(&cache.join(archive(name)), &content)?;
        }
        let took = progress::seconds(started.elapsed());
        progress::note(format_args!("{}: made in {took}, once", names.join(", ")));
    }
    for name in names {
        let link = directory.join(archive(name));
        remove_link(&link)?;
        let target = cache.join(archive(name));
        std::os::unix::fs::symlink(&target, &link)
            .with_context(|| format!("cannot link {} to {}", link.display(), target.display()))?;
        progress::note(link.display());
    }
    Ok(())
}

fn remove_link(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _gone => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::archive::Compression;
    use super::*;

    fn example() -> Image {
        let (name, made_by, defaults) = ("example", "a test", archive::runs("/run"));
        Image { name, made_by, defaults, layers: vec![[0; 1024].into()], compression: Compression::None }
    }

    #[test]
    fn a_large_image_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        keep(&cache, directory.path(), &["example"], || one_each(&[example()])).unwrap();
        keep(&cache, directory.path(), &["example"], || panic!("it is there")).unwrap();
        let kept = fs::read(directory.path().join("example.tar")).unwrap();
        assert_eq!(kept, example().archive().unwrap());
    }
}
