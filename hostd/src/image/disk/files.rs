//! The files of an image as the host reads them, without a disk: for what leaves the image on the host itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{DiskFileError, LayerDirectory, Merged};
use crate::image::layer::BLOCK_BYTES;
use crate::image::merge;
use crate::image::tree::{InodeKind, InodeNumber, Tree};

/// All files of an image, and where their contents are.
pub(crate) struct ImageFiles {
    tree: Tree,
    /// The index file of each layer, where tails are.
    indexes: Vec<File>,
    /// The data files, and the block at which each begins, ascending.
    data: Vec<(u64, File)>,
}

impl ImageFiles {
    /// Of the image of these layers, base first. Blocks, and takes memory for each file.
    ///
    /// # Errors
    /// Layers that cannot be read, or that do not fit onto each other.
    pub(crate) fn open(layers: &[LayerDirectory]) -> Result<Self, DiskFileError> {
        let merged = Merged::of(layers)?;
        let open = |(block, path): (u64, std::path::PathBuf)| match File::open(&path) {
            Ok(file) => Ok((block, file)),
            Err(source) => Err(DiskFileError::File { path, source }),
        };
        let data = merged.data.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { tree: merged.tree, indexes: merged.indexes, data })
    }

    /// The directory at `path`, links followed inside the image alone; nothing if there is none.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Option<InodeNumber> {
        merge::directory_at(&mut self.tree, path)
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Fills the buffer with what a file has from an offset on. What is no file, or ends before, is an error.
    pub(crate) fn read_exact_at(
        &self,
        number: InodeNumber,
        buffer: &mut [u8],
        offset_bytes: u64,
    ) -> io::Result<()> {
        let InodeKind::File { size_bytes, first_block, tail } = &self.tree.inode(number).kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let end_bytes = offset_bytes.checked_add(buffer.len() as u64).filter(|end| end <= size_bytes);
        end_bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        let whole_bytes = if tail.is_some() { size_bytes / BLOCK_BYTES * BLOCK_BYTES } else { *size_bytes };
        let in_data = whole_bytes.saturating_sub(offset_bytes).min(buffer.len() as u64);
        let in_data = usize::try_from(in_data).expect("no more than the buffer has");
        let (blocks, rest) = buffer.split_at_mut(in_data);
        if !blocks.is_empty() {
            let (begin, file) = self.data_at(*first_block).ok_or(io::ErrorKind::UnexpectedEof)?;
            file.read_exact_at(blocks, (first_block - begin) * BLOCK_BYTES + offset_bytes)?;
        }
        match tail {
            Some(tail) if !rest.is_empty() => {
                let into_tail = (offset_bytes + in_data as u64) - whole_bytes;
                self.indexes[tail.layer].read_exact_at(rest, tail.offset_bytes + into_tail)
            }
            _ => Ok(()),
        }
    }

    /// The data file that has this block, and where it begins. Layers without data begin where the next one does.
    fn data_at(&self, block: u64) -> Option<(u64, &File)> {
        let behind = self.data.partition_point(|(begin, _)| *begin <= block);
        let (begin, file) = self.data.get(behind.checked_sub(1)?)?;
        Some((*begin, file))
    }
}

#[cfg(test)]
impl ImageFiles {
    /// Of an image of these layers' archives, whose files are in `directory`.
    pub(crate) fn of_archives(archives: &[Vec<u8>], directory: &std::path::Path) -> Self {
        let layer = |(number, archive): (usize, &Vec<u8>)| {
            let path = directory.join(format!("layer-{number}"));
            std::fs::create_dir(&path).unwrap();
            crate::image::layer::unpack(archive, &path).unwrap();
            LayerDirectory { diff_id: crate::image::Digest::of(archive), path }
        };
        Self::open(&archives.iter().enumerate().map(layer).collect::<Vec<_>>()).unwrap()
    }
}

impl std::fmt::Debug for ImageFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageFiles").field("inodes", &self.tree.inode_count()).finish_non_exhaustive()
    }
}
