//! Where things are: the checkout, its `target` directory, and the cache that several checkouts share.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// The directories that the verbs read and write.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

impl Workspace {
    /// The checkout this program was built from, and the user's cache directory.
    pub(crate) fn locate() -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask has no parent directory")?.to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => root.join(directory),
            None => root.join("target"),
        };
        Ok(Self { root, target, cache: user_cache()?.join("berth") })
    }

    /// A file or directory of the checkout.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The cargo that runs us, in the checkout, never touching the lock file.
    pub(crate) fn cargo(&self) -> Command {
        let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command.current_dir(&self.root).arg("--locked");
        command
    }

    /// Products that belong to this checkout.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.target.join(relative)
    }

    /// Products that every checkout with the same inputs can use.
    pub(crate) fn cache(&self, relative: &str) -> PathBuf {
        self.cache.join(relative)
    }
}

/// `$XDG_CACHE_HOME`, which counts only when absolute (XDG base directory specification), or `~/.cache`.
fn user_cache() -> anyhow::Result<PathBuf> {
    if let Some(directory) = env::var_os("XDG_CACHE_HOME").map(PathBuf::from)
        && directory.is_absolute()
    {
        return Ok(directory);
    }
    let home = env::home_dir().context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(home.join(".cache"))
}
