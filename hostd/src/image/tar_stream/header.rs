//! One 512-byte tar header: its fields as they stand, without extensions.

use super::sparse::{self, Segment};
use super::{BLOCK_BYTES, ModificationTime, TarError};

const USTAR_MAGIC: &[u8] = b"ustar\0";
const GNU_MAGIC: &[u8] = b"ustar  \0";

pub(super) struct Header([u8; BLOCK_BYTES]);

/// What the header's type flag announces.
pub(super) enum HeaderKind {
    LongPath,
    LongLink,
    PaxLocal,
    PaxGlobal,
    Member(u8),
}

impl Header {
    /// Checks the checksum, unsigned or (as some old writers had it) signed.
    pub(super) fn parse(block: [u8; BLOCK_BYTES]) -> Result<Self, TarError> {
        let header = Self(block);
        let bytes = || {
            header.0.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte })
        };
        let unsigned: u64 = bytes().map(u64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        let claimed = number(&header.0[148..156])?;
        if claimed.cast_unsigned() != unsigned && claimed != signed {
            return Err(TarError::Malformed("a header's checksum is wrong"));
        }
        Ok(header)
    }

    pub(super) fn kind(&self) -> HeaderKind {
        match self.0[156] {
            b'L' => HeaderKind::LongPath,
            b'K' => HeaderKind::LongLink,
            b'x' | b'X' => HeaderKind::PaxLocal,
            b'g' => HeaderKind::PaxGlobal,
            flag => HeaderKind::Member(flag),
        }
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if self.0[257..].starts_with(USTAR_MAGIC) { text(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u16, TarError> {
        let mode = unsigned(&self.0[100..108])? & 0o7777;
        Ok(u16::try_from(mode).expect("12 bits"))
    }

    pub(super) fn uid(&self) -> Result<u64, TarError> {
        unsigned(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Result<u64, TarError> {
        unsigned(&self.0[116..124])
    }

    pub(super) fn size_bytes(&self) -> Result<u64, TarError> {
        unsigned(&self.0[124..136])
    }

    pub(super) fn modified(&self) -> Result<ModificationTime, TarError> {
        Ok(ModificationTime { seconds: number(&self.0[136..148])?, nanoseconds: 0 })
    }

    pub(super) fn device_major(&self) -> Result<u32, TarError> {
        device_number(&self.0[329..337])
    }

    pub(super) fn device_minor(&self) -> Result<u32, TarError> {
        device_number(&self.0[337..345])
    }

    pub(super) fn is_old_gnu_sparse(&self) -> bool {
        self.0[156] == b'S' && self.0[257..].starts_with(GNU_MAGIC)
    }

    /// Adds the segments in this header; says whether extension blocks follow.
    pub(super) fn sparse_segments(&self, segments: &mut Vec<Segment>) -> Result<bool, TarError> {
        sparse::parse_segments(&self.0[386..482], segments)?;
        Ok(self.0[482] != 0)
    }

    pub(super) fn sparse_real_size_bytes(&self) -> Result<u64, TarError> {
        unsigned(&self.0[483..495])
    }
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

fn device_number(field: &[u8]) -> Result<u32, TarError> {
    u32::try_from(number(field)?).map_err(|_| TarError::Malformed("a device number above 32 bits"))
}

pub(super) fn unsigned(field: &[u8]) -> Result<u64, TarError> {
    u64::try_from(number(field)?).map_err(|_| TarError::Malformed("a negative number in a header"))
}

/// A numeric field: octal digits between blanks, or GNU's big-endian two's complement (first bit set).
fn number(field: &[u8]) -> Result<i64, TarError> {
    let malformed = || TarError::Malformed("a field that should be a number is none");
    if field[0] & 0x80 != 0 {
        return base_256(field).ok_or_else(malformed);
    }
    let digits = field.split(|byte| matches!(byte, b' ' | 0)).find(|word| !word.is_empty()).unwrap_or(b"0");
    let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
    if digits.starts_with(['+', '-']) {
        return Err(malformed());
    }
    i64::from_str_radix(digits, 8).map_err(|_| malformed())
}

fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let start: i128 = if negative { -1 } else { 0 };
    let fold = |value: i128, byte: u8| (value << 8) | i128::from(byte);
    // Twelve bytes at most: 96 bits fit.
    let value = field[1..].iter().fold(fold(start, first), |value, byte| fold(value, *byte));
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_octal_and_in_binary() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(&[0; 8]).unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 2]).unwrap(), 258);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        for wrong in
            [&b"9999999\0"[..], b"-000001\0", b"0x1\0\0\0\0\0", &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(number(wrong).is_err(), "{wrong:?}");
        }
    }
}
