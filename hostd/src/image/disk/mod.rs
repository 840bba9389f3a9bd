//! The image disk: *metadata ∥ layer data ∥ layer data …*, what a machine mounts read-only as one EROFS file system.
//!
//! Only the metadata is made per image; the layers' data files are used as they are, by every image that has them.

mod files;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use berth_vmm::config::Extent;

pub(crate) use self::files::ImageFiles;

use super::digest::Digest;
use super::erofs::{self, WriteError};
use super::layer::{self, BLOCK_BYTES, LayerIndex};
use super::merge::{self, LayerPlace};
use super::tree::{TailPlace, Tree};

/// Of all layers, hidden ones among them: they are in the daemon's memory while a disk is made.
const MAX_INODES: usize = 4 << 20;

/// The read-only disk of one image. Its files may be opened for as long as the image is not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageDisk {
    pub extents: Vec<Extent>,
    /// Of all extents: a multiple of 4096.
    pub total_bytes: u64,
}

/// Why an image's disk could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskFileError {
    /// Its index is damaged, or it does not fit onto the layers below.
    #[error("layer {layer}")]
    Layer { layer: Digest, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("image disk {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the image has more than 16 TiB")]
    TooLarge,
    #[error("its layers have more than {MAX_INODES} files together")]
    TooManyFiles,
}

/// A layer of the store: its name and its directory.
#[derive(Clone, Debug)]
pub(crate) struct LayerDirectory {
    pub(crate) diff_id: Digest,
    pub(crate) path: PathBuf,
}

impl ImageDisk {
    /// The disk whose metadata was built already, from these layers.
    pub(crate) fn open(metadata: &Path, layers: &[LayerDirectory]) -> Result<Self, DiskFileError> {
        let data = once_each(layers).map(|layer| layer.path.join(layer::files::DATA));
        let mut disk = Self { extents: Vec::new(), total_bytes: 0 };
        for path in std::iter::once(metadata.to_owned()).chain(data) {
            let length = fs::metadata(&path).map(|metadata| metadata.len());
            let length_bytes = length.map_err(|source| DiskFileError::File { path: path.clone(), source })?;
            if length_bytes > 0 {
                disk.extents.push(Extent { path, offset_bytes: 0, length_bytes });
                disk.total_bytes += length_bytes;
            }
        }
        Ok(disk)
    }
}

/// Writes the metadata of an image of these layers, base first, to a new file, durably.
pub(crate) fn build(image: Digest, layers: &[LayerDirectory], path: &Path) -> Result<(), DiskFileError> {
    let merged = Merged::of(layers)?;
    let failed = |source| DiskFileError::File { path: path.to_owned(), source };
    let file = File::options().read(true).write(true).create_new(true).open(path).map_err(failed)?;
    let mut target = Buffered(BufWriter::with_capacity(256 << 10, file));
    let read_tail = |place: TailPlace, tail: &mut [u8]| {
        merged.indexes[place.layer].read_exact_at(tail, place.offset_bytes)
    };
    let (uuid, data_blocks) = (image.first_half(), merged.data_blocks);
    erofs::write(&merged.tree, uuid, data_blocks, &read_tail, &mut target).map_err(|error| match error {
        WriteError::TooLarge => DiskFileError::TooLarge,
        WriteError::Write(source) => failed(source),
        WriteError::Tail { layer, source } => {
            DiskFileError::File { path: index_path(&layers[layer]), source }
        }
    })?;
    target.0.get_ref().sync_all().map_err(failed)
}

/// An image's layers, one on top of the other.
struct Merged {
    tree: Tree,
    /// How many blocks of data its files point into.
    data_blocks: u64,
    /// The index file of each layer, where tails are.
    indexes: Vec<File>,
    /// The data files, and the block of the image's data at which each begins, ascending.
    data: Vec<(u64, PathBuf)>,
}

impl Merged {
    fn of(layers: &[LayerDirectory]) -> Result<Self, DiskFileError> {
        let mut merged = Self { tree: Tree::new(), data_blocks: 0, indexes: Vec::new(), data: Vec::new() };
        let mut base_blocks = HashMap::new();
        for (number, layer) in layers.iter().enumerate() {
            let refused = |problem| DiskFileError::Layer { layer: layer.diff_id, source: problem };
            let path = index_path(layer);
            let mut file = File::open(&path).map_err(|source| DiskFileError::File { path, source })?;
            let index = LayerIndex::read(&mut file).map_err(|problem| refused(problem.into()))?;
            let blocks = index.data_bytes / BLOCK_BYTES;
            let base_block = *base_blocks.entry(layer.diff_id).or_insert(merged.data_blocks);
            if base_block == merged.data_blocks {
                merged.data.push((base_block, layer.path.join(layer::files::DATA)));
                merged.data_blocks += blocks;
            }
            let place = LayerPlace { layer: number, base_block };
            merge::apply(&mut merged.tree, index, place).map_err(|problem| refused(problem.into()))?;
            if merged.tree.inode_count() > MAX_INODES {
                return Err(DiskFileError::TooManyFiles);
            }
            merged.indexes.push(file);
        }
        Ok(merged)
    }
}

fn index_path(layer: &LayerDirectory) -> PathBuf {
    layer.path.join(layer::files::INDEX)
}

/// A layer may occur twice in an image; its data is on the disk once.
fn once_each(layers: &[LayerDirectory]) -> impl Iterator<Item = &LayerDirectory> {
    let mut seen = std::collections::HashSet::new();
    layers.iter().filter(move |layer| seen.insert(layer.diff_id))
}

/// A buffered file that can also be read back, as the checksum at the end asks for.
struct Buffered(BufWriter<File>);

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.flush()?;
        self.0.get_mut().read(buffer)
    }
}

impl Seek for Buffered {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

#[cfg(test)]
mod tests;
