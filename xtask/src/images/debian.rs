//! `debian:latest` and `debian-zstd:latest`: a whole Debian of the release that runs here, by debootstrap; the same
//! layer with either compression.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, bail};

use super::archive::{self, CREATED_UNIX_S, Compression, Image};
use super::tree;
use crate::apt;
use crate::program;
use crate::progress;

pub(super) const NAMES: [&str; 2] = ["debian", "debian-zstd"];
/// What a freshly installed system has that belongs to its installation, or differs each time. Of a directory the files
/// go, and the directories stay, for packages own them.
const LEFT_OUT: [&str; 9] = [
    "dev",
    "var/cache/apt",
    "var/cache/ldconfig",
    "var/lib/apt/lists",
    "var/log",
    "tmp",
    "etc/machine-id",
    "etc/hostname",
    "etc/resolv.conf",
];

pub(super) fn images(codename: &str) -> anyhow::Result<Vec<Image>> {
    if !rustix::process::geteuid().is_root() {
        bail!("debootstrap needs root");
    }
    progress::note(format_args!("debootstrap {codename}: some minutes, once"));
    let directory = tempfile::Builder::new().prefix("berth-debian-").tempdir().context("no directory")?;
    let root = directory.path().join("root");
    install(codename, &root, &directory.path().join("log"))?;
    LEFT_OUT.iter().try_for_each(|path| empty(&root.join(path)))?;
    let layer: Rc<[u8]> = tree::layer(&root)?.into();
    let image = |name, layer, compression| Image {
        name,
        made_by: "debootstrap --variant=minbase",
        defaults: archive::runs("bash"),
        layers: vec![layer],
        compression,
    };
    let [gzip, zstd] = NAMES;
    Ok(vec![image(gzip, Rc::clone(&layer), Compression::Gzip), image(zstd, layer, Compression::Zstd)])
}

fn install(codename: &str, root: &Path, log: &Path) -> anyhow::Result<()> {
    let output = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", codename]).arg(root);
    // debootstrap knows a place itself if apt does not say.
    command.args(apt::site(codename));
    // Some maintainer scripts write the date into files.
    command.env("SOURCE_DATE_EPOCH", CREATED_UNIX_S.to_string());
    command.stdout(output.try_clone()?).stderr(output);
    program::run(&mut command).with_context(|| {
        let said = fs::read_to_string(log).unwrap_or_default();
        said.lines().last().unwrap_or("it said nothing").to_owned()
    })
}

/// Removes the files below a directory, or what is in a file; what is not there is fine.
fn empty(path: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    let emptied = if metadata.is_file() { fs::write(path, "") } else { remove_files(path) };
    emptied.with_context(|| format!("cannot empty {}", path.display()))
}

fn remove_files(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return fs::remove_file(path);
    }
    fs::read_dir(path)?.try_for_each(|entry| remove_files(&entry?.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_emptied_and_not_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/log/apt")).unwrap();
        fs::write(root.path().join("var/log/apt/history"), "today").unwrap();
        fs::write(root.path().join("machine-id"), "random").unwrap();
        for path in ["var/log", "machine-id", "no/such/file"] {
            empty(&root.path().join(path)).unwrap();
        }
        assert_eq!(fs::read_dir(root.path().join("var/log/apt")).unwrap().count(), 0);
        assert_eq!(fs::read(root.path().join("machine-id")).unwrap(), b"");
    }
}
