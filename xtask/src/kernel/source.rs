//! The kernel's source: the tarball of Debian's source package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::program;

/// The long-term series that Debian packages and Berth follows.
const PACKAGE: &str = "linux-source-6.12";

/// An installed source package.
#[derive(Debug)]
pub(super) struct Source {
    /// The package's version, which names the exact content of the tarball.
    pub(super) version: String,
    tarball: PathBuf,
}

impl Source {
    /// # Errors
    /// When the package is not installed; the message names the verb that installs it.
    pub(super) fn installed() -> anyhow::Result<Self> {
        let version = program::output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", PACKAGE]))
            .with_context(|| format!("{PACKAGE} is not installed: run `cargo xtask packages`"))?;
        let tarball = PathBuf::from(format!("/usr/src/{PACKAGE}.tar.xz"));
        if !tarball.exists() {
            bail!("{PACKAGE} {version} is installed but {} is missing", tarball.display());
        }
        Ok(Self { version, tarball })
    }

    /// Unpacks into `directory` and gives the top of the tree.
    pub(super) fn unpack(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        program::run(
            Command::new("tar")
                .arg("--extract")
                .arg("--file")
                .arg(&self.tarball)
                .arg("--directory")
                .arg(directory),
        )?;
        Ok(directory.join(PACKAGE))
    }
}
