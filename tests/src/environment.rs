//! What the tests run with, as `cargo xtask test` prepared it.

use std::env;
use std::path::{Path, PathBuf};

/// The products and what they boot.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    binaries: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    images: PathBuf,
}

impl Environment {
    /// `Err` says what is missing.
    pub(crate) fn from_variables() -> Result<Self, String> {
        let variable = |name: &str| {
            let value =
                env::var_os(name).ok_or_else(|| format!("{name} is not set; run `cargo xtask test`"))?;
            Ok::<_, String>(PathBuf::from(value))
        };
        Ok(Self {
            binaries: variable("BERTH_TEST_BIN_DIR")?,
            kernel: variable("BERTH_TEST_KERNEL")?,
            initramfs: variable("BERTH_TEST_INITRAMFS")?,
            images: variable("BERTH_TEST_IMAGES")?,
        })
    }

    /// The same in a new directory that every user may look into.
    pub(crate) fn copy_for_others(&self, directory: &Path) -> Self {
        std::fs::create_dir(directory).expect("a directory can be made");
        let copy = |from: &Path| {
            let to = directory.join(from.file_name().expect("a file has a name"));
            std::fs::copy(from, &to).expect("a file can be copied");
            to
        };
        copy(&self.binary("berthd"));
        copy(&self.binary("berth-vmm"));
        let (kernel, initramfs) = (copy(&self.kernel), copy(&self.initramfs));
        // Our own clients are run from where they are.
        std::os::unix::fs::symlink(self.binary("berth"), directory.join("berth"))
            .expect("a link can be made");
        Self { binaries: directory.to_owned(), kernel, initramfs, images: self.images.clone() }
    }

    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.images.join(format!("{name}.tar"))
    }
}

/// What `cargo xtask test` got under this name; `None`, said aloud, where it could not.
pub(crate) fn product(variable: &str) -> Option<PathBuf> {
    if let Some(found) = env::var_os(variable) {
        return Some(found.into());
    }
    let reason = env::var(format!("{variable}_MISSING"));
    skip(&reason.unwrap_or_else(|_| format!("{variable} is not set; run `cargo xtask test`")));
    None
}

/// The program of that name in PATH.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| is_file(candidate))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Tells a person, and the summary of `cargo xtask test`, that a test did not run.
pub(crate) fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("skipped: {test}: {reason}");
}
