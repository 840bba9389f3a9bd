//! The store from outside: archives go in, images, disks and errors come out.

mod archives;
mod arriving;
mod checking;
mod committing;
mod crash;
mod documents;
mod hostile;
mod hostile_layers;
mod lifecycle;
mod loading;
mod races;
mod saving;

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::image::test_files;

/// A store on a temporary data root.
struct Host {
    root: TempDir,
    store: Option<ImageStore>,
}

impl Host {
    fn new() -> Self {
        let mut host = Self { root: tempfile::tempdir().unwrap(), store: None };
        host.restart();
        host
    }

    /// As after a crash: nothing is said goodbye to.
    fn restart(&mut self) {
        self.store = None;
        let database = Database::open(&self.root.path().join("berth.db")).unwrap();
        self.store = Some(ImageStore::open(&self.images(), database).unwrap());
    }

    fn images(&self) -> PathBuf {
        self.root.path().join("image")
    }

    fn store(&self) -> &ImageStore {
        self.store.as_ref().unwrap()
    }

    fn load(&self, archive: &[u8]) -> Result<Vec<LoadedImage>, LoadError> {
        self.store().load(archive, &mut |_| {})
    }

    /// Removes what nobody uses.
    fn remove(&self, reference: &str, force: bool) -> Result<Vec<Removed>, RemoveError> {
        Ok(self.store().remove(reference, force, |_| ImageUsers::default())?.steps)
    }

    /// What the store's files are, by path: to tell whether anything changed.
    fn files(&self) -> BTreeMap<PathBuf, u64> {
        test_files::below(&self.images())
    }

    /// Reads a file out of an image's disk by the bytes it must contain.
    fn disk_contains(&self, reference: &str, bytes: &[u8]) -> bool {
        let image = self.store().resolve(reference).unwrap();
        let disk = self.store().disk(&image.id).unwrap();
        let whole: Vec<u8> = disk.extents.iter().flat_map(|extent| fs::read(&extent.path).unwrap()).collect();
        assert_eq!(whole.len() as u64, disk.total_bytes);
        whole.windows(bytes.len()).any(|window| window == bytes)
    }
}
