//! The second thread of an intake: undoes the compression, and tells a bomb from a layer.

use std::sync::mpsc::SyncSender;

use super::super::unpack::PlainSource;
use super::chunks::{self, Buffers, Chunk};
use super::{LayerError, Stop};
use crate::image::compression::Decompressor;

/// What a layer may expand to: this, or so many times the bytes of its blob. Deflate cannot exceed 1032 times, which
/// sparse files in gzip come close to; zstd could go thirty times beyond.
const PLAIN_ALLOWANCE_BYTES: u64 = 4 << 30;
const MAX_PLAIN_RATIO: u64 = 1100;
/// No layer in the field has a tenth of it.
const MAX_PLAIN_BYTES: u64 = 1 << 40;

pub(super) fn run(
    source: impl PlainSource,
    buffers: &Buffers,
    target: &SyncSender<Chunk>,
) -> Result<(), Stop> {
    let mut plain = Decompressor::new(source).map_err(LayerError::Compression)?;
    let mut plain_bytes = 0_u64;
    loop {
        let mut chunk = buffers.fill(&mut plain).map_err(LayerError::Compression)?;
        chunk.blob_bytes = plain.source().blob_bytes();
        plain_bytes += chunk.bytes().len() as u64;
        check(plain_bytes, chunk.blob_bytes)?;
        let at_end = chunk.is_end();
        chunks::send(target, chunk)?;
        if at_end {
            return Ok(());
        }
    }
}

fn check(plain_bytes: u64, blob_bytes: u64) -> Result<(), LayerError> {
    if plain_bytes > MAX_PLAIN_BYTES {
        return Err(LayerError::TooLarge("its archive has more than 1 TiB"));
    }
    if plain_bytes > PLAIN_ALLOWANCE_BYTES.max(blob_bytes.saturating_mul(MAX_PLAIN_RATIO)) {
        return Err(LayerError::TooLarge("it expands to more than 4 GiB and 1100 times its blob"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_with_the_blob() {
        check(4 << 30, 1).unwrap();
        assert!(check((4 << 30) + 1, 1).is_err());
        check(70 << 30, 69 << 20).unwrap();
        assert!(check(80 << 30, 69 << 20).is_err());
        assert!(check((1 << 40) + 1, u64::MAX).is_err());
    }
}
