//! A tree of 50,000 small files in a git repository; made once and kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::runner::HostRoot;
use super::share::{INSIDE, TREE};
use crate::cache;
use crate::progress;
use crate::workspace::Workspace;

pub(super) const FILES: usize = DIRECTORIES * FILES_EACH;
const DIRECTORIES: usize = 500;
const FILES_EACH: usize = 100;
/// Counts up when the tree becomes another one.
const NAME: &str = "bench/share-1";

/// No housekeeping begins by itself in the background, where it would be in the way of that which is asked for.
const COMMIT: &str = "cd /share/tree && git init -q && git config gc.auto 0 && git add -A && \
    git -c user.name=bench -c user.email=bench@localhost commit -q -m 'All of it' && git gc -q";

/// The directory with the tree, as nobody has changed it.
pub(super) fn ensure(workspace: &Workspace, host: &HostRoot) -> anyhow::Result<PathBuf> {
    let kept = workspace.cache(NAME);
    let _lock = cache::lock(&kept, "tree")?;
    if !kept.exists() {
        progress::heading(format_args!("a tree of {FILES} files, once"));
        let unfinished = kept.with_extension("new");
        // What an earlier try has left.
        drop(fs::remove_dir_all(&unfinished));
        fill(&unfinished.join(TREE)).with_context(|| format!("cannot fill {}", unfinished.display()))?;
        host.shell(Some((&unfinished, INSIDE)), COMMIT)?;
        fs::rename(&unfinished, &kept).with_context(|| format!("cannot create {}", kept.display()))?;
    }
    // A bench that was killed may have left its git's lock.
    host.shell(
        Some((&kept, INSIDE)),
        "rm -f /share/tree/.git/index.lock && git -C /share/tree status --porcelain",
    )?;
    Ok(kept)
}

fn fill(root: &Path) -> std::io::Result<()> {
    for directory in 0..DIRECTORIES {
        let path = root.join(format!("part-{}/module-{directory}", directory % 20));
        fs::create_dir_all(&path)?;
        for file in 0..FILES_EACH {
            let line = format!("fn of_{directory}_{file}() {{}}\n");
            fs::write(path.join(format!("file-{file}.rs")), line.repeat(1 + (directory * 7 + file) % 60))?;
        }
    }
    Ok(())
}
