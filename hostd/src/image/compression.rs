//! Undoing compression, recognised by the first bytes and never by names or media types.
//!
//! Gzip and zstd, each also as several members one after the other; what else compresses is refused by name, and
//! everything unknown passes as it is.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Of a skippable frame, which parallel compressors put first; the low half of its first byte is free.
const ZSTD_SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];
/// What this project does not decompress, and the first bytes of it.
const REFUSED: [(&str, &[u8]); 4] = [
    ("xz", b"\xfd7zXZ\0"),
    ("lz4", &[0x04, 0x22, 0x4d, 0x18]),
    ("lzip", b"LZIP\x01"),
    // Behind three letters and the level comes the first block's mark, which no file name of a tar archive has.
    ("bzip2", &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]),
];
const BZIP2_LETTERS: &[u8] = b"BZh";
const MAX_MAGIC_BYTES: usize = 10;
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
        } else if magic.starts_with(&ZSTD_MAGIC) || is_skippable_frame(magic) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

fn is_skippable_frame(magic: &[u8]) -> bool {
    let rest = magic.split_first().filter(|(first, _)| *first & 0xf0 == 0x50);
    rest.is_some_and(|(_, rest)| rest.starts_with(&ZSTD_SKIPPABLE_MAGIC))
}

/// Compresses with gzip, the same bytes always to the same.
pub(crate) fn gzip(mut plain: impl Read, target: impl io::Write) -> io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::default());
    io::copy(&mut plain, &mut encoder)?;
    encoder.finish()?.flush()
}

/// The plain bytes of a stream that may be compressed.
pub(crate) fn decompress<'a>(mut source: impl Read + 'a) -> io::Result<impl Read + 'a> {
    let mut magic = Vec::with_capacity(MAX_MAGIC_BYTES);
    source.by_ref().take(MAX_MAGIC_BYTES as u64).read_to_end(&mut magic)?;
    Decompressor::new(io::Cursor::new(magic).chain(BufReader::with_capacity(BUFFER_BYTES, source)))
}

/// A stream that may be compressed, as its plain bytes.
pub(crate) enum Decompressor<R: BufRead> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Decompressor<R> {
    /// Looks at what the source's buffer has first: ten bytes, or all there is.
    pub(crate) fn new(mut source: R) -> io::Result<Self> {
        let magic = source.fill_buf()?;
        if let Some(name) = refused(magic) {
            let problem = format!("it is compressed with {name}; only gzip and zstd are supported");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        match Compression::recognize(magic) {
            Compression::None => Ok(Self::Plain(source)),
            Compression::Gzip => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(source)))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(Self::Zstd(decoder))
            }
        }
    }

    pub(crate) fn source(&self) -> &R {
        match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }
}

impl<R: BufRead> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

fn refused(magic: &[u8]) -> Option<&'static str> {
    let past_letters = magic.strip_prefix(BZIP2_LETTERS).and_then(|rest| rest.get(1..));
    let found = REFUSED.iter().find(|(name, first)| match *name {
        "bzip2" => past_letters.is_some_and(|rest| rest.starts_with(first)),
        _ => magic.starts_with(first),
    });
    found.map(|(name, _)| *name)
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
        let frame = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        let skippable = b"\x53\x2a\x4d\x18\x04\x00\x00\x00free";
        let frames = [&skippable[..], &frame(b"hello "), &frame(b"world"), &skippable[..]].concat();
        for bytes in [&b"hello world"[..], &two_members, &frame(b"hello world"), &frames] {
            assert_eq!(plain(bytes).unwrap(), b"hello world");
        }
        for short in [&b""[..], b"a", b"abc", b"P", b"BZh", b"BZh9.txt"] {
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

    #[test]
    fn other_compression_is_refused_by_name() {
        for (name, bytes) in [
            ("xz", &b"\xfd7zXZ\0\0\x04"[..]),
            ("bzip2", b"BZh91AY&SY\0"),
            ("lz4", b"\x04\x22\x4d\x18\x60"),
            ("lzip", b"LZIP\x01\x0c"),
        ] {
            let text = plain(bytes).unwrap_err().to_string();
            assert_eq!(text, format!("it is compressed with {name}; only gzip and zstd are supported"));
        }
    }
}
