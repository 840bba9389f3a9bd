//! Compiling static programs, and writing product files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::program;
use crate::workspace::Workspace;

/// Naming the target even where it is the host's keeps these flags away from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// For whom a program is built.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// For size. No dynamic linker exists there, and nothing randomizes addresses before it.
    Guest,
    /// For programs that start often: a dynamic linker would be a fifth of their start. Addresses are random.
    Host,
}

impl Place {
    fn profile(self) -> &'static str {
        match self {
            Self::Guest => "agent",
            Self::Host => "release",
        }
    }

    fn flags(self) -> &'static str {
        match self {
            Self::Guest => "-C target-feature=+crt-static -C relocation-model=static",
            Self::Host => "-C target-feature=+crt-static",
        }
    }
}

/// Builds one package as a static program, and gives its path.
pub(crate) fn static_program(workspace: &Workspace, package: &str, place: Place) -> anyhow::Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet", "--profile", place.profile(), "--target", TARGET, "--package", package]);
    cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", place.flags());
    program::run(&mut cargo)?;
    Ok(workspace.target(TARGET).join(place.profile()).join(package))
}

/// Makes `path` hold `content`, at once and only if it does not yet.
pub(crate) fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let parent = path.parent().context("a product has a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(parent)
        .with_context(|| format!("cannot create a file in {}", parent.display()))?;
    std::io::Write::write_all(&mut file, content)
        .and_then(|()| file.persist(path).map_err(|failed| failed.error))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_written_only_when_it_differs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/product");
        replace(&path, b"one").unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        replace(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }
}
