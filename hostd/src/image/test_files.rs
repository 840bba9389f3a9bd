//! What lies on the disk of a test, for those who demand that it stays as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each file below a directory, and its size in bytes.
pub(crate) fn below(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    collect(directory, &mut files);
    files
}

fn collect(directory: &Path, files: &mut BTreeMap<PathBuf, u64>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            collect(&entry.path(), files);
        } else {
            files.insert(entry.path(), metadata.len());
        }
    }
}
