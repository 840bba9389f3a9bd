//! Images of Debian packages: each is one layer above the Debian image's.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context, bail};
use serde_json::Value;

use super::archive::{self, CREATED_UNIX_S, Compression, Image};
use super::tree::{self, Seen};
use crate::program;
use crate::progress;

/// Installs them.
pub(super) const SCRIPT: &str = include_str!("../../../images/servers/install.sh");

/// Debian packages, and what else an image is.
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) packages: &'static [&'static str],
    /// What is done below the root once they are installed.
    pub(super) finish: fn(&Path) -> anyhow::Result<()>,
    /// What its containers have beyond those of the Debian image.
    pub(super) defaults: fn() -> Value,
    pub(super) compression: Compression,
}

/// Made from the archive of the Debian image.
///
/// # Errors
/// We are not root, or a package cannot be installed.
pub(super) fn images(debian: &Path, recipes: &[Recipe]) -> anyhow::Result<Vec<Image>> {
    if !rustix::process::geteuid().is_root() {
        bail!("installing packages into another root needs root");
    }
    let archive = fs::read(debian).with_context(|| format!("cannot read {}", debian.display()))?;
    let base: Rc<[u8]> = archive::only_layer(&archive)?.into();
    recipes.iter().map(|recipe| recipe.image(&base)).collect()
}

impl Recipe {
    fn image(&self, base: &Rc<[u8]>) -> anyhow::Result<Image> {
        progress::note(format_args!("{}: apt-get install {}", self.name, self.packages.join(" ")));
        let directory = tempfile::Builder::new().prefix("berth-server-").tempdir().context("no directory")?;
        let root = directory.path().join("root");
        unpack(base, &root)?;
        let lower = Seen::below(&root)?;
        self.install(&root)?;
        (self.finish)(&root).with_context(|| format!("cannot finish {}", self.name))?;
        let upper = tree::layer_above(&lower, &root)?;
        let mut defaults = archive::runs("bash");
        for (name, value) in (self.defaults)().as_object().into_iter().flatten() {
            defaults[name] = value.clone();
        }
        Ok(Image {
            name: self.name,
            made_by: "Debian's packages, installed by Berth",
            defaults,
            layers: vec![Rc::clone(base), upper.into()],
            compression: self.compression,
        })
    }

    fn install(&self, root: &Path) -> anyhow::Result<()> {
        let script = root.with_file_name("install.sh");
        fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh"]).arg(&script).arg(root).args(self.packages);
        command.env("SOURCE_DATE_EPOCH", CREATED_UNIX_S.to_string()).stdin(Stdio::null());
        program::output(&mut command).map(drop)
    }
}

fn unpack(layer: &[u8], root: &Path) -> anyhow::Result<()> {
    let mut archive = tar::Archive::new(layer);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.unpack(root).with_context(|| format!("cannot unpack the Debian image into {}", root.display()))
}
