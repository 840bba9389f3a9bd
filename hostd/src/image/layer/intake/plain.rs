//! The second thread of an intake: undoes the compression, and tells a bomb from a layer.

use std::sync::mpsc::SyncSender;

use super::super::unpack::PlainSource;
use super::chunks::{self, Buffers, Chunk};
use super::{LayerError, Stop};
use crate::image::compression::Decompressor;

/// What a layer may expand to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// This much is anybody's.
    allowance_bytes: u64,
    /// Beyond it, so many times the bytes of the blob.
    ratio: u64,
    /// But never more than this.
    plain_bytes: u64,
}

impl Bounds {
    /// Deflate cannot exceed 1032 times, which sparse files in gzip come close to; zstd could go thirty times beyond.
    /// No layer in the field has a tenth of the bytes.
    pub(super) const LAYER: Self = Self { allowance_bytes: 4 << 30, ratio: 1100, plain_bytes: 1 << 40 };

    fn check(self, plain_bytes: u64, blob_bytes: u64) -> Result<(), LayerError> {
        if plain_bytes > self.plain_bytes {
            return Err(LayerError::TooLarge("its archive has more than 1 TiB"));
        }
        if plain_bytes > self.allowance_bytes.max(blob_bytes.saturating_mul(self.ratio)) {
            return Err(LayerError::TooLarge("it expands to more than 4 GiB and 1100 times its blob"));
        }
        Ok(())
    }
}

pub(super) fn run(
    source: impl PlainSource,
    bounds: Bounds,
    buffers: &Buffers,
    target: &SyncSender<Chunk>,
) -> Result<(), Stop> {
    let mut plain = Decompressor::new(source).map_err(LayerError::Compression)?;
    let mut plain_bytes = 0_u64;
    loop {
        let mut chunk = buffers.fill(&mut plain).map_err(LayerError::Compression)?;
        chunk.blob_bytes = plain.source().blob_bytes();
        plain_bytes += chunk.bytes().len() as u64;
        bounds.check(plain_bytes, chunk.blob_bytes)?;
        let at_end = chunk.is_end();
        chunks::send(target, chunk)?;
        if at_end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufRead, Read};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn bounds_grow_with_the_blob() {
        let bounds = Bounds::LAYER;
        bounds.check(4 << 30, 1).unwrap();
        assert!(bounds.check((4 << 30) + 1, 1).is_err());
        bounds.check(70 << 30, 69 << 20).unwrap();
        assert!(bounds.check(80 << 30, 69 << 20).is_err());
        assert!(bounds.check((1 << 40) + 1, u64::MAX).is_err());
    }

    /// A blob in memory: all of it was read before anything comes out.
    struct Whole<'a>(&'a [u8], u64);

    impl Read for Whole<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl BufRead for Whole<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            self.0.fill_buf()
        }

        fn consume(&mut self, count: usize) {
            self.0.consume(count);
        }
    }

    impl PlainSource for Whole<'_> {
        fn blob_bytes(&self) -> u64 {
            self.1
        }
    }

    /// How far it got, and whether it was stopped.
    fn expand(blob: &[u8]) -> (u64, bool) {
        let bounds = Bounds { allowance_bytes: 1 << 20, ..Bounds::LAYER };
        let (buffers, (chunks, received)) = (Buffers::default(), sync_channel(1000));
        let stopped = run(Whole(blob, blob.len() as u64), bounds, &buffers, &chunks).is_err();
        drop(chunks);
        (received.iter().map(|chunk| chunk.bytes().len() as u64).sum(), stopped)
    }

    #[test]
    fn a_bomb_that_no_gzip_can_be_is_defused_before_it_goes_off() {
        let bomb = zstd::encode_all(io::repeat(0).take(64 << 20), 1).unwrap();
        let allowed = bomb.len() as u64 * 1100;
        assert!(allowed < 32 << 20, "else this is no bomb: {}", bomb.len());
        let (bytes, stopped) = expand(&bomb);
        assert!(stopped && bytes <= allowed, "{bytes}");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        io::copy(&mut io::repeat(0).take(8 << 20), &mut gzip).unwrap();
        assert_eq!(expand(&gzip.finish().unwrap()), (8 << 20, false));
    }
}
