//! Which files were written already under another of their names.

use std::collections::HashMap;

/// Names that are kept at a time. What is linked beyond that is written again, under each of its names.
const MAX_KEPT_BYTES: usize = 8 << 20;
/// What an entry takes beside its name.
const ENTRY_BYTES: usize = 64;

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// The first names of files that have further ones.
#[derive(Debug, Default)]
pub(super) struct Links {
    first_names: HashMap<FileId, FirstName>,
    kept_bytes: usize,
}

#[derive(Debug)]
struct FirstName {
    path: Vec<u8>,
    /// Names that were not met yet.
    left: u64,
}

impl Links {
    /// The name under which a file of `names` names was written; `None` the first time, when this is remembered as it.
    pub(super) fn first_name(&mut self, file: FileId, names: u64, path: &[u8]) -> Option<Vec<u8>> {
        if names < 2 {
            return None;
        }
        let Some(known) = self.first_names.get_mut(&file) else {
            self.remember(file, names - 1, path);
            return None;
        };
        known.left -= 1;
        if known.left > 0 {
            return Some(known.path.clone());
        }
        let known = self.first_names.remove(&file)?;
        self.kept_bytes -= known.path.len() + ENTRY_BYTES;
        Some(known.path)
    }

    fn remember(&mut self, file: FileId, left: u64, path: &[u8]) {
        let bytes = path.len() + ENTRY_BYTES;
        if self.kept_bytes + bytes <= MAX_KEPT_BYTES {
            self.kept_bytes += bytes;
            self.first_names.insert(file, FirstName { path: path.to_vec(), left });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_forgotten_with_its_last_name() {
        let mut links = Links::default();
        let file = FileId { device: 1, inode: 2 };
        assert_eq!(links.first_name(FileId { device: 9, inode: 2 }, 1, b"alone"), None);
        assert_eq!(links.first_name(file, 3, b"a"), None);
        assert_eq!(links.first_name(file, 3, b"b").unwrap(), b"a");
        assert_eq!(links.first_name(file, 3, b"c").unwrap(), b"a");
        assert_eq!((links.kept_bytes, links.first_names.len()), (0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut links = Links::default();
        let path = vec![b'x'; 1 << 20];
        for inode in 0..100 {
            assert_eq!(links.first_name(FileId { device: 0, inode }, 2, &path), None);
        }
        assert!(links.kept_bytes <= MAX_KEPT_BYTES);
        assert!(links.first_name(FileId { device: 0, inode: 0 }, 2, b"y").is_some());
        assert_eq!(links.first_name(FileId { device: 0, inode: 99 }, 2, b"y"), None, "written again");
    }
}
