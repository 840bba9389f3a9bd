//! `reaper:latest`: busybox, and above it a program that removes what testcontainers leaves, in the place of its own.

use std::fs;

use anyhow::Context;

use super::archive::{self, Compression, Image};
use super::busybox;
use super::layer::Layer;
use crate::products::{self, Place};
use crate::workspace::Workspace;

const PROGRAM: &str = "bin/reaper";

pub(super) fn image(workspace: &Workspace) -> anyhow::Result<Image> {
    let path = products::static_program(workspace, "reaper", Place::Guest)?;
    let program = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut layer = Layer::new();
    layer.file(PROGRAM, 0o755, &program)?;
    Ok(Image {
        name: "reaper",
        made_by: "the reaper crate of Berth",
        defaults: archive::runs(&format!("/{PROGRAM}")),
        layers: vec![busybox::layer()?.into(), layer.finish()?.into()],
        compression: Compression::None,
    })
}
