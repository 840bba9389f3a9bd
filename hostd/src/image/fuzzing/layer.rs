//! Layers: archives, blobs and index files, up to the image's disk.

use std::io::Cursor;
use std::path::Path;

use tempfile::TempDir;

use super::archive_script::{Input, archive};
use crate::image::digest::Digest;
use crate::image::disk::{self, LayerDirectory};
use crate::image::erofs;
use crate::image::layer::{Intake, LayerError, LayerIndex, unpack, verify};
use crate::image::merge::{self, LayerPlace};
use crate::image::tree::Tree;

/// Up to three layers, one on top of the other: each is refused, or is taken in whole; together they are refused, or
/// make a file system without a flaw, and always the same one.
pub(super) fn layer(input: &[u8]) {
    let mut input = Input::new(input);
    let root = directory();
    let mut layers = Vec::new();
    for number in 0..=input.u8() % 3 {
        let path = root.path().join(number.to_string());
        std::fs::create_dir(&path).expect("a new directory");
        if unpack(&archive(&mut input), &path).is_err() {
            continue;
        }
        verify(&path).expect("what was taken in is sound");
        layers.push(LayerDirectory { diff_id: Digest::of(&[number]), path });
    }
    let (first, second) = (root.path().join("first"), root.path().join("second"));
    if disk::build(Digest::of(b"image"), &layers, &first).is_err() {
        return;
    }
    let metadata = std::fs::read(&first).expect("it was just written");
    erofs::reader::read(&metadata, data_blocks(&layers)).expect("a disk without a flaw");
    disk::build(Digest::of(b"image"), &layers, &second).expect("what went once goes again");
    assert!(metadata == std::fs::read(&second).expect("it was just written"), "always the same disk");
}

/// The bytes as a blob: whatever it is, the threads end, and what they tell is its own fault.
pub(super) fn layer_blob(input: &[u8]) {
    let root = directory();
    let intake = Intake { blob: None, diff_id: Digest::of(b"nothing"), directory: root.path() };
    match intake.run(input, &|_| {}) {
        Ok(_) => panic!("no bytes have that digest"),
        // The archive was gone through to its end.
        Err(LayerError::DiffId { .. }) => verify(root.path()).expect("what was taken in is sound"),
        Err(error) => assert!(error.is_layers_fault(), "{error}"),
    }
}

/// An index file with the right checksum: refused, or good for a disk.
pub(super) fn layer_index(input: &[u8]) {
    let mut file = input.to_vec();
    let begin = input.len().min(16);
    if file.len() >= 12 {
        file[..8].copy_from_slice(b"BERTHLX\x02");
        let checked = file.len() - 4;
        // From where the trailer says that the entries begin.
        let trailer = file.len().saturating_sub(36);
        let at = file.get(trailer..trailer + 8).map_or(0, |at| {
            usize::try_from(u64::from_le_bytes(at.try_into().expect("eight bytes"))).unwrap_or(usize::MAX)
        });
        let section = file.get(at..checked).unwrap_or(&file[begin.min(checked)..checked]);
        let checksum = crc32fast::hash(section);
        file[checked..].copy_from_slice(&checksum.to_le_bytes());
    }
    let Ok(index) = LayerIndex::read(&mut Cursor::new(file)) else { return };
    let (mut tree, data_blocks) = (Tree::new(), index.data_bytes / 4096);
    if merge::apply(&mut tree, index, LayerPlace { layer: 0, base_block: 0 }).is_err() {
        return;
    }
    let mut metadata = Cursor::new(Vec::new());
    let no_tails = |_, tail: &mut [u8]| {
        tail.fill(b't');
        Ok(())
    };
    if erofs::write(&tree, [7; 16], data_blocks, &no_tails, &mut metadata).is_ok() {
        erofs::reader::read(metadata.get_ref(), data_blocks).expect("a disk without a flaw");
    }
}

fn data_blocks(layers: &[LayerDirectory]) -> u64 {
    let length =
        |layer: &LayerDirectory| std::fs::metadata(layer.path.join("data")).expect("it is there").len();
    layers.iter().map(|layer| length(layer) / 4096).sum()
}

/// In memory where the host has such a place: a fuzzer writes some ten thousand files a minute.
pub(super) fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    directory.expect("room for a small directory")
}
