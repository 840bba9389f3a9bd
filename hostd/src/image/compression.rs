//! Undoing compression, recognised by the first bytes and never by names or media types.
//!
//! Gzip and zstd, each also as several members one after the other; everything else passes as it is.

use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A zstd frame may ask for this much memory, 2^27 bytes: what `zstd` itself accepts without `--long=31`.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const BUFFER_BYTES: usize = 128 << 10;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// So many bytes tell.
    pub(crate) const MAGIC_BYTES: u64 = ZSTD_MAGIC.len() as u64;

    /// By a stream's first bytes.
    pub(crate) fn recognize(magic: &[u8]) -> Self {
        if magic.starts_with(&GZIP_MAGIC) {
            Self::Gzip
        } else if magic.starts_with(&ZSTD_MAGIC) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

/// The plain bytes of a stream that may be compressed.
pub(crate) fn decompress<'a>(mut source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    source.by_ref().take(Compression::MAGIC_BYTES).read_to_end(&mut magic)?;
    let compression = Compression::recognize(&magic);
    let whole = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(magic).chain(source));
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut result = Vec::new();
        decompress(bytes)?.read_to_end(&mut result)?;
        Ok(result)
    }

    #[test]
    fn each_format_gives_the_plain_bytes() {
        let two_members = [gzip(b"hello "), gzip(b"world")].concat();
        let zstd = zstd::encode_all(&b"hello world"[..], 1).unwrap();
        for bytes in [&b"hello world"[..], &two_members, &zstd] {
            assert_eq!(plain(bytes).unwrap(), b"hello world");
        }
        for short in [&b""[..], b"a", b"abc"] {
            assert_eq!(plain(short).unwrap(), short);
        }
    }

    #[test]
    fn what_was_cut_short_or_changed_is_an_error() {
        let whole = gzip(&[7; 4000]);
        assert!(plain(&whole[..whole.len() - 4]).is_err());
        let mut changed = whole.clone();
        let crc = changed.len() - 8;
        changed[crc] ^= 1;
        assert!(plain(&changed).is_err());
        let zstd = zstd::encode_all(&[7; 4000][..], 1).unwrap();
        assert!(plain(&zstd[..zstd.len() - 1]).is_err());
    }
}
