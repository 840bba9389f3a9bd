//! `traffic:latest`: what the benchmark of networks runs in containers, one static program.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use super::archive::{self, Compression, Image};
use super::layer::Layer;
use crate::products::{self, Place};
use crate::workspace::Workspace;

/// Of the package, the image and its program.
pub(crate) const NAME: &str = "traffic";

/// The program itself: it runs beside containers, too.
pub(crate) fn program(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    products::static_program(workspace, NAME, Place::Guest)
}

pub(super) fn image(workspace: &Workspace) -> anyhow::Result<Image> {
    let path = program(workspace)?;
    let program = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut layer = Layer::new();
    layer.file(NAME, 0o755, &program)?;
    Ok(Image {
        name: NAME,
        made_by: "the traffic crate of Berth",
        defaults: archive::runs(&format!("/{NAME}")),
        layers: vec![layer.finish()?.into()],
        compression: Compression::None,
    })
}
