//! `cargo xtask images`: the demo images as archives that `docker load` and `berth load` take.
//!
//! No registry is asked: what is in them comes from this checkout and from installed Debian packages. The
//! same input gives the same bytes, so an image keeps its id for as long as its content stays the same.

mod hello_world;

mod busybox;

mod archive;

mod layer;

use std::path::PathBuf;

use crate::products;
use crate::progress;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    println!("{}", ensure(workspace)?.display());
    Ok(())
}

/// The directory with one up-to-date `NAME.tar` per image.
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
