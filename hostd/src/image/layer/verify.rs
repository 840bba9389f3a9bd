//! Checking a layer at rest: its data file and its tails against the checksums that its index has.
//!
//! Checksums find damage, not malice: who can write the store can write them too. What a layer must be is proved by
//! its blob's digest and its diff id, when it is taken in.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::content::{BLOCK, BlockChecksum, is_zero};
use super::index::{IndexError, LayerIndex};
use super::{BLOCK_BYTES, files, index};

const BUFFER_BYTES: usize = 256 << 10;

/// What is wrong with a layer's files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DamagedLayer {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("its data has {actual} bytes instead of {expected}")]
    Length { expected: u64, actual: u64 },
    #[error("its {0} has a wrong checksum")]
    Checksum(&'static str),
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// Reads all of the layer in `directory`.
///
/// # Errors
/// A file is missing, unreadable or not as it was written.
pub(crate) fn verify(directory: &Path) -> Result<(), DamagedLayer> {
    let path = directory.join(files::INDEX);
    let failed = |source| DamagedLayer::Read { path: path.clone(), source };
    let mut file = File::open(&path).map_err(failed)?;
    let index = LayerIndex::read(&mut file)?;
    let tails_bytes = index.tails_end_bytes - index::MAGIC.len() as u64;
    file.seek(SeekFrom::Start(index::MAGIC.len() as u64)).map_err(failed)?;
    if checksum(file.take(tails_bytes)).map_err(failed)? != index.tails_checksum {
        return Err(DamagedLayer::Checksum("index"));
    }
    verify_data(&directory.join(files::DATA), &index)
}

fn verify_data(path: &Path, index: &LayerIndex) -> Result<(), DamagedLayer> {
    let failed = |source| DamagedLayer::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let actual = file.metadata().map_err(failed)?.len();
    if actual != index.data_bytes {
        return Err(DamagedLayer::Length { expected: index.data_bytes, actual });
    }
    if blocks_checksum(file, actual).map_err(failed)? != index.data_checksum {
        return Err(DamagedLayer::Checksum("data"));
    }
    Ok(())
}

fn checksum(mut source: impl Read) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Skips the file's holes: a sparse file may be larger than any disk.
fn blocks_checksum(mut file: File, length_bytes: u64) -> io::Result<u32> {
    let mut checksum = BlockChecksum::default();
    let mut at_bytes = 0;
    while let Some((start_bytes, end_bytes)) = next_data(&file, at_bytes, length_bytes)? {
        file.seek(SeekFrom::Start(start_bytes))?;
        let mut blocks = BufReader::with_capacity(BUFFER_BYTES, &file);
        let mut block = [0; BLOCK];
        for number in start_bytes / BLOCK_BYTES..end_bytes / BLOCK_BYTES {
            blocks.read_exact(&mut block)?;
            if !is_zero(&block) {
                checksum.update(number, &block);
            }
        }
        at_bytes = end_bytes;
    }
    Ok(checksum.finish())
}

/// The next run of blocks that are not a hole, from a multiple of the block size to another.
fn next_data(file: &File, from_bytes: u64, length_bytes: u64) -> io::Result<Option<(u64, u64)>> {
    if from_bytes >= length_bytes {
        return Ok(None);
    }
    let start_bytes = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from_bytes)) {
        Ok(start_bytes) => start_bytes / BLOCK_BYTES * BLOCK_BYTES,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let hole_bytes = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start_bytes))?;
    Ok(Some((start_bytes.max(from_bytes), hole_bytes.next_multiple_of(BLOCK_BYTES).min(length_bytes))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::unpack;
    use super::*;

    fn layer() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut content = vec![0; 1 << 20];
        content[10] = 1;
        content[700_000] = 2;
        for (path, bytes) in [("sparse", &content[..]), ("tail", b"short"), ("more", &[9; 5000])] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, bytes).unwrap();
        }
        unpack(&builder.into_inner().unwrap(), directory.path()).unwrap();
        directory
    }

    fn change(directory: &Path, file: &str, offset_bytes: u64) {
        let file = File::options().read(true).write(true).open(directory.join(file)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset_bytes).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset_bytes).unwrap();
    }

    #[test]
    fn a_layer_that_nobody_touched_is_sound() {
        verify(layer().path()).unwrap();
    }

    #[test]
    fn a_changed_byte_is_found_wherever_it_is() {
        for (file, offset_bytes, expected) in [
            (files::DATA, 10, "data"),
            (files::DATA, 300_000, "data"),
            (files::DATA, 700_000, "data"),
            (files::DATA, (1 << 20) + 4095, "data"),
            (files::INDEX, 9, "index"),
        ] {
            let layer = layer();
            change(layer.path(), file, offset_bytes);
            let error = verify(layer.path()).unwrap_err();
            assert_eq!(error.to_string(), format!("its {expected} has a wrong checksum"), "{offset_bytes}");
        }
    }

    #[test]
    fn data_of_another_length_is_damaged() {
        let layer = layer();
        let data = File::options().write(true).open(layer.path().join(files::DATA)).unwrap();
        data.set_len(4096).unwrap();
        assert!(matches!(verify(layer.path()), Err(DamagedLayer::Length { actual: 4096, .. })));
        std::fs::remove_file(layer.path().join(files::DATA)).unwrap();
        assert!(matches!(verify(layer.path()), Err(DamagedLayer::Read { .. })));
    }
}
