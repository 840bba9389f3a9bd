//! Scratch disks: a container's writable disk, a sparse clone of an empty ext4 file system that is made once per size,
//! by the time that the container is made: no start waits for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::error::EngineError;

/// The sizes that a scratch disk can have: ext4 needs room for its own tables.
pub const SCRATCH_DISK_BYTES: RangeInclusive<u64> = 16 << 20..=16 << 40;

/// Where the clones come from: one template for each size that a container has.
#[derive(Debug)]
pub(super) struct ScratchTemplates {
    directory: PathBuf,
    /// Of containers that ask for none of their own.
    usual_bytes: u64,
    /// Held while a template is made, so that it is made once.
    making: Mutex<()>,
}

#[derive(Debug)]
pub(super) struct ScratchTemplate {
    path: PathBuf,
}

impl ScratchTemplates {
    /// Makes the usual template if it is not there yet. Blocks for as long as `mkfs.ext4` does.
    pub(super) fn open(data_root: &Path, usual_bytes: u64) -> Result<Self, EngineError> {
        let templates = Self { directory: data_root.join("scratch"), usual_bytes, making: Mutex::default() };
        templates.of(None)?;
        Ok(templates)
    }

    /// The template of a size, made if it is not there yet; that blocks for as long as `mkfs.ext4` does.
    pub(super) fn of(&self, size_bytes: Option<u64>) -> Result<ScratchTemplate, EngineError> {
        let failed =
            |error: io::Error| EngineError::internal("cannot make the scratch disk's template", &error);
        let size_bytes = size_bytes.unwrap_or(self.usual_bytes);
        let path = self.path(size_bytes);
        if !path.exists() {
            let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            fs::create_dir_all(&self.directory).map_err(failed)?;
            if !path.exists() {
                let unfinished = path.with_extension("unfinished");
                make_file_system(&unfinished, size_bytes, "scratch").map_err(failed)?;
                fs::rename(&unfinished, &path).map_err(failed)?;
            }
        }
        Ok(ScratchTemplate { path })
    }

    /// Removes the templates of sizes that no container asks for any more.
    pub(super) fn keep_only(&self, sizes_bytes: impl Iterator<Item = u64>) -> io::Result<()> {
        let usual = std::iter::once(self.usual_bytes);
        let kept: BTreeSet<PathBuf> = usual.chain(sizes_bytes).map(|size| self.path(size)).collect();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if !kept.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn path(&self, size_bytes: u64) -> PathBuf {
        self.directory.join(format!("empty-{size_bytes}.ext4"))
    }
}

impl ScratchTemplate {
    /// What of the host's disk a clone takes beyond the empty file system: what was written to it. 0 if it is not there.
    pub(super) fn written_bytes(&self, clone: &Path) -> u64 {
        let allocated = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
        allocated(clone).saturating_sub(allocated(&self.path))
    }

    /// Clones the template; the new disk takes only as much space as its few blocks of metadata.
    pub(super) fn clone_to(&self, path: &Path) -> io::Result<()> {
        let template = File::open(&self.path)?;
        let unfinished = path.with_extension("unfinished");
        let disk = File::create(&unfinished)?;
        match ioctl_ficlone(&disk, &template) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::XDEV | Errno::NOTTY) => {
                copy_sparse(&template, &disk)?;
            }
            Err(error) => return Err(error.into()),
        }
        fs::rename(unfinished, path)
    }
}

/// An empty ext4 in a new file, which takes hardly any space.
pub(super) fn make_file_system(path: &Path, size_bytes: u64, label: &str) -> io::Result<()> {
    File::create(path)?.set_len(size_bytes)?;
    let output = Command::new("mkfs.ext4")
        // Initialised lazily and with a small journal, so that the template and every clone of it stay small.
        .args(["-q", "-F", "-m", "0", "-L", label, "-J", &format!("size={}", journal_mib(size_bytes))])
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"])
        .arg(path)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("mkfs.ext4: {error}; install e2fsprogs")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Small, and where the disk is small, a small part of it.
fn journal_mib(size_bytes: u64) -> u64 {
    (size_bytes >> 20).div_euclid(16).clamp(1, 16)
}

/// Copies only what is no hole.
fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut position = 0;
    while position < length {
        let start = match seek(from, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole until the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start, end)?;
        position = end;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let left = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        if copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), left)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_clone_is_equal_and_sparse() {
        let root = tempfile::tempdir().unwrap();
        let template = ScratchTemplates::open(root.path(), 1 << 30).unwrap().of(None).unwrap();
        let disk = root.path().join("disk");
        template.clone_to(&disk).unwrap();
        let metadata = disk.metadata().unwrap();
        assert_eq!(metadata.len(), 1 << 30);
        assert!(metadata.blocks() * 512 < 16 << 20, "{} bytes", metadata.blocks() * 512);
        let mut magic = [0; 2];
        File::open(&disk).unwrap().read_exact_at(&mut magic, 1024 + 56).unwrap();
        assert_eq!(magic, [0x53, 0xef], "an ext4 superblock");
    }

    #[test]
    fn a_size_has_a_template_for_as_long_as_somebody_has_that_size() {
        let root = tempfile::tempdir().unwrap();
        let templates = ScratchTemplates::open(root.path(), 32 << 20).unwrap();
        let small = templates.of(Some(16 << 20)).unwrap();
        assert_eq!(fs::metadata(&small.path).unwrap().len(), 16 << 20);
        templates.of(Some(17 << 20)).unwrap();
        templates.keep_only([16 << 20].into_iter()).unwrap();
        let left: BTreeSet<_> =
            fs::read_dir(root.path().join("scratch")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left, BTreeSet::from([templates.path(16 << 20), templates.path(32 << 20)]));
    }

    #[test]
    fn data_after_holes_is_copied() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(10 << 20).unwrap();
        file.write_all_at(b"deep", 5 << 20).unwrap();
        copy_sparse(&File::open(&from).unwrap(), &File::create(&to).unwrap()).unwrap();
        assert_eq!(fs::read(from).unwrap(), fs::read(to).unwrap());
    }
}
