//! A layer of what is below a directory of this host: owners, permissions and links of all kinds as they are. All of it,
//! or what has come since it was looked at.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tar::{Builder, EntryType, Header};

use super::archive::CREATED_UNIX_S;

/// The tar archive of everything below `root`, in the order of names. Nothing is younger than the images say they are:
/// otherwise the day of a build would be in it.
pub(super) fn layer(root: &Path) -> anyhow::Result<Vec<u8>> {
    layer_above(&Seen::default(), root)
}

/// The same of what is new or changed since `lower` was seen there. What has gone is not told.
pub(super) fn layer_above(lower: &Seen, root: &Path) -> anyhow::Result<Vec<u8>> {
    let mut writer = Writer { root, lower, archive: Builder::new(Vec::new()), names: HashMap::new() };
    writer.directory(Path::new(""))?;
    writer.archive.into_inner().context("cannot finish a layer")
}

/// What was below a directory: each path's inode and when that was changed last.
#[derive(Default)]
pub(super) struct Seen(HashMap<PathBuf, Change>);

/// The inode, and seconds and nanoseconds of its change.
type Change = (u64, i64, i64);

impl Seen {
    pub(super) fn below(root: &Path) -> anyhow::Result<Self> {
        let mut seen = Self::default();
        let mut directories = vec![PathBuf::new()];
        while let Some(relative) = directories.pop() {
            for name in names(&root.join(&relative))? {
                let path = relative.join(name);
                let metadata = metadata(root, &path)?;
                if metadata.is_dir() {
                    directories.push(path.clone());
                }
                seen.0.insert(path, change(&metadata));
            }
        }
        Ok(seen)
    }
}

fn change(metadata: &Metadata) -> Change {
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

fn names(directory: &Path) -> anyhow::Result<Vec<OsString>> {
    let listed: io::Result<Vec<_>> =
        fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut names = listed.with_context(|| format!("cannot list {}", directory.display()))?;
    names.sort();
    Ok(names)
}

fn metadata(root: &Path, path: &Path) -> anyhow::Result<Metadata> {
    fs::symlink_metadata(root.join(path)).with_context(|| format!("cannot look at {}", path.display()))
}

struct Writer<'a> {
    root: &'a Path,
    lower: &'a Seen,
    archive: Builder<Vec<u8>>,
    /// The first name of each file that has several, by its inode.
    names: HashMap<u64, PathBuf>,
}

impl Writer<'_> {
    fn directory(&mut self, relative: &Path) -> anyhow::Result<()> {
        for name in names(&self.root.join(relative))? {
            let path = relative.join(name);
            let metadata = metadata(self.root, &path)?;
            if self.lower.0.get(&path) != Some(&change(&metadata)) {
                self.entry(&path, &metadata)
                    .with_context(|| format!("cannot put {} into a layer", path.display()))?;
            }
            if metadata.is_dir() {
                self.directory(&path)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
        let mut header = header(metadata)?;
        let kind = metadata.file_type();
        if !metadata.is_dir() && metadata.nlink() > 1 {
            if let Some(first) = self.names.get(&metadata.ino()) {
                header.set_entry_type(EntryType::Link);
                self.archive.append_link(&mut header, path, first)?;
                return Ok(());
            }
            self.names.insert(metadata.ino(), path.to_path_buf());
        }
        if kind.is_file() {
            header.set_size(metadata.len());
            self.archive.append_data(&mut header, path, fs::File::open(self.root.join(path))?)?;
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            self.archive.append_link(&mut header, path, fs::read_link(self.root.join(path))?)?;
        } else if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.archive.append_data(&mut header, path.join(""), io::empty())?;
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
            self.archive.append_data(&mut header, path, io::empty())?;
        } else {
            bail!("neither a file, a link, a directory nor a pipe");
        }
        Ok(())
    }
}

fn header(metadata: &Metadata) -> anyhow::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    let modified_s = u64::try_from(metadata.mtime()).context("it is older than 1970")?;
    header.set_mtime(modified_s.min(CREATED_UNIX_S));
    header.set_size(0);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_becomes_entries_in_order() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        fs::write(root.path().join("b/file"), "content").unwrap();
        fs::set_permissions(root.path().join("b/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::hard_link(root.path().join("b/file"), root.path().join("c")).unwrap();
        symlink("b/file", root.path().join("a")).unwrap();
        let layer = layer(root.path()).unwrap();
        let mut seen = Vec::new();
        for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            let target = entry.link_name().unwrap().map(|target| target.display().to_string());
            assert!(header.mtime().unwrap() <= CREATED_UNIX_S);
            seen.push((entry.path().unwrap().display().to_string(), header.entry_type(), target));
        }
        let expected = [
            ("a", EntryType::Symlink, Some("b/file")),
            ("b/", EntryType::Directory, None),
            ("b/file", EntryType::Regular, None),
            ("c", EntryType::Link, Some("b/file")),
        ];
        assert_eq!(seen, expected.map(|(path, kind, to)| (path.to_owned(), kind, to.map(str::to_owned))));
        let mode =
            tar::Archive::new(layer.as_slice()).entries().unwrap().nth(2).unwrap().unwrap().header().mode();
        assert_eq!(mode.unwrap(), 0o4711);
    }

    #[test]
    fn a_layer_above_has_only_what_is_new_or_changed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("kept")).unwrap();
        for name in ["kept/old", "changed"] {
            fs::write(root.path().join(name), "before").unwrap();
        }
        let seen = Seen::below(root.path()).unwrap();
        assert!(paths(&layer_above(&seen, root.path()).unwrap()).is_empty());
        // Another file of that name, whatever the clock says.
        fs::write(root.path().join("draft"), "after!").unwrap();
        fs::rename(root.path().join("draft"), root.path().join("changed")).unwrap();
        fs::create_dir(root.path().join("new")).unwrap();
        fs::write(root.path().join("new/file"), "").unwrap();
        assert_eq!(paths(&layer_above(&seen, root.path()).unwrap()), ["changed", "new/", "new/file"]);
    }

    fn paths(layer: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(layer);
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }
}
