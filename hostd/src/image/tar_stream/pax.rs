//! Pax extended headers (POSIX.1-2017, pax, "Extended Header"): records of the form `LENGTH KEY=VALUE\n`.
//!
//! The length delimits a record: a value may hold any bytes, newlines included. Unknown keys are ignored, as POSIX asks.

use std::collections::BTreeMap;

use super::sparse::{self, Segment};
use super::{ModificationTime, TarError};

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const MALFORMED: TarError = TarError::Malformed("a pax record is malformed");

/// The records of one extended header that mean something to us.
#[derive(Debug, Default)]
pub(super) struct PaxRecords {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size_bytes: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) modified: Option<ModificationTime>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

/// The `GNU.sparse.*` records of versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) name: Option<Vec<u8>>,
    pub(super) segments: Vec<Segment>,
    major: Option<u64>,
    real_size_bytes: Option<u64>,
    /// A segment whose length is still to come (version 0.0 says the two in turn).
    pending_offset_bytes: Option<u64>,
}

impl PaxRecords {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, TarError> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = split_record(bytes).ok_or(MALFORMED)?;
            records.apply(key, value)?;
            bytes = rest;
        }
        Ok(records)
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        // An empty value takes an earlier record of the key back.
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        let number = || if value.is_empty() { Ok(None) } else { decimal(value).map(Some) };
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size_bytes = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.modified = None,
            b"mtime" => self.modified = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.apply(key, value)?;
                }
            }
        }
        Ok(())
    }
}

impl SparseRecords {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(decimal(value)?),
            b"size" | b"realsize" => self.real_size_bytes = Some(decimal(value)?),
            b"offset" => self.pending_offset_bytes = Some(decimal(value)?),
            b"numbytes" => {
                let offset_bytes = self.pending_offset_bytes.take().ok_or(MALFORMED)?;
                sparse::push(&mut self.segments, Segment { offset_bytes, length_bytes: decimal(value)? })?;
            }
            b"map" => {
                let numbers: Result<Vec<u64>, _> = value.split(|byte| *byte == b',').map(decimal).collect();
                for pair in numbers?.chunks(2) {
                    let [offset_bytes, length_bytes] = *pair else { return Err(MALFORMED) };
                    sparse::push(&mut self.segments, Segment { offset_bytes, length_bytes })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The whole file's size; `None` if the member is not sparse.
    pub(super) fn real_size_bytes(&self) -> Result<Option<u64>, TarError> {
        match self.major {
            None | Some(0 | 1) => Ok(self.real_size_bytes),
            Some(_) => Err(TarError::Malformed("a sparse file of an unknown version")),
        }
    }

    /// Version 1.0 keeps the map in front of the data.
    pub(super) fn map_is_in_data(&self) -> bool {
        self.major == Some(1)
    }
}

/// Key, value and what follows the record.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank]).ok()?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let pair = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&pair[..equals], &pair[equals + 1..]);
    (!key.is_empty()).then_some((key, value, rest))
}

pub(super) fn decimal(digits: &[u8]) -> Result<u64, TarError> {
    let text = std::str::from_utf8(digits).map_err(|_| MALFORMED)?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MALFORMED);
    }
    text.parse().map_err(|_| MALFORMED)
}

/// Seconds with an optional sign and fraction; digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Result<ModificationTime, TarError> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    let seconds = i64::try_from(decimal(whole)?).map_err(|_| MALFORMED)?;
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value: u32, digit| value * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, _) => ModificationTime { seconds, nanoseconds },
        (true, 0) => ModificationTime { seconds: -seconds, nanoseconds: 0 },
        // Nanoseconds count upwards from the second below.
        (true, _) => ModificationTime { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_newlines_and_nuls() {
        let mut bytes = b"33 SCHILY.xattr.user.binary=a\nb\0\n".to_vec();
        bytes.extend_from_slice(b"11 path=xy\n");
        assert_eq!(bytes.len(), 33 + 11);
        let records = PaxRecords::parse(&bytes).unwrap();
        assert_eq!(records.xattrs[&b"user.binary"[..]], b"a\nb\0");
        assert_eq!(records.path.unwrap(), b"xy");
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"x"[..],
            b"11 path=xy",
            b"12 path=xy\n",
            b"10 path=xy\n",
            b"0 path=xy\n",
            b"3 \n",
            b"6 =xy\n",
            b"-1 a=b\n",
            b"99999999999999999999 a=b\n",
            b"11 size=-1\n",
        ] {
            assert!(PaxRecords::parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn times_keep_nanoseconds_on_both_sides_of_1970() {
        let at = |seconds, nanoseconds| ModificationTime { seconds, nanoseconds };
        assert_eq!(time(b"12.5").unwrap(), at(12, 500_000_000));
        assert_eq!(time(b"12.1234567899").unwrap(), at(12, 123_456_789));
        assert_eq!(time(b"-1.25").unwrap(), at(-2, 750_000_000));
        assert_eq!(time(b"-3").unwrap(), at(-3, 0));
        assert!(time(b"1.x").is_err() && time(b"").is_err() && time(b"--1").is_err());
    }
}
