//! `hello-world:latest`: one static program in an otherwise empty file system.

use std::fs;

use anyhow::Context;

use super::archive::{self, Compression, Image};
use super::layer::Layer;
use crate::products::{self, Place};
use crate::workspace::Workspace;

const PROGRAM: &str = "hello";

pub(super) fn image(workspace: &Workspace) -> anyhow::Result<Image> {
    let path = products::static_program(workspace, "hello-world", Place::Guest)?;
    let program = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut layer = Layer::new();
    layer.file(PROGRAM, 0o755, &program)?;
    Ok(Image {
        name: "hello-world",
        made_by: "the hello-world crate of Berth",
        defaults: archive::runs(&format!("/{PROGRAM}")),
        layers: vec![layer.finish()?.into()],
        compression: Compression::None,
    })
}
