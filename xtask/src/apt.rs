//! What apt knows: the release that runs here, and where its packages come from. Installing is in `packages`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::program;

/// Debian's own downloader, which is in no PATH.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// The release of the Debian that runs here.
pub(crate) fn codename() -> anyhow::Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let line = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    line.map(|name| name.trim_matches('"').to_owned()).context("/etc/os-release names no release")
}

/// Where apt gets packages of that release from.
pub(crate) fn site(codename: &str) -> Option<String> {
    let mut command = Command::new("apt-get");
    let listed = program::output(command.args(["indextargets", "--format", "$(RELEASE) $(SITE)"])).ok()?;
    let entries = listed.lines().filter_map(|line| line.split_once(' '));
    entries.into_iter().find(|(release, _site)| *release == codename).map(|(_release, site)| site.to_owned())
}

/// Packages of the release that runs here, as files in `directory`. As root, apt's lists are made if there are none.
///
/// # Errors
/// When apt has none of that name, or cannot get it.
pub(crate) fn download(packages: &[&str], directory: &Path) -> anyhow::Result<()> {
    let get = || {
        let mut command = Command::new("apt-get");
        program::output(command.args(["--quiet", "download"]).args(packages).current_dir(directory))
    };
    if get().is_err() && rustix::process::geteuid().is_root() {
        program::output(Command::new("apt-get").args(["--quiet", "update"]))?;
    }
    get().map(drop)
}

/// One file of the archive that the packages of this host come from, of any release.
///
/// # Errors
/// When it cannot be had, or is not the one with this SHA-256.
pub(crate) fn download_file(path_in_archive: &str, sha256: &str, to: &Path) -> anyhow::Result<()> {
    let codename = codename()?;
    let Some(site) = site(&codename) else { bail!("apt does not say where {codename} comes from") };
    let mut command = Command::new(HELPER);
    command.arg("download-file").arg(format!("{site}/{path_in_archive}")).arg(to);
    program::output(command.arg(format!("SHA256:{sha256}"))).map(drop)
}

/// The files of a package below `root`; none of its scripts is run.
///
/// # Errors
/// When it is no package.
pub(crate) fn unpack(package: &Path, root: &Path) -> anyhow::Result<()> {
    program::output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(root)).map(drop)
}
