//! SHA-256 digests: the names of configs, blobs and layers, and readers that compute them on the way.
//!
//! Other algorithms are refused: no registry or archive in the field uses one.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How many hexadecimal digits a short id has.
const SHORT_DIGITS: usize = 12;

/// A SHA-256 digest; shown and parsed as `sha256:<64 hexadecimal digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Text that is no digest this store understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no digest of the form sha256:<64 hexadecimal digits>")]
pub struct InvalidDigest {
    text: String,
}

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first 12 digits: what people see.
    #[must_use]
    pub fn short(&self) -> String {
        let mut digits = self.hex();
        digits.truncate(SHORT_DIGITS);
        digits
    }

    /// The first half of the digest, for fields of 128 bits.
    pub(crate) fn first_half(&self) -> [u8; 16] {
        *self.0.first_chunk().expect("16 is less than 32")
    }

    /// What a hash came to.
    pub(crate) fn from_hash(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    /// Parses the digits alone, as file names carry them.
    pub(crate) fn from_hex(digits: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest { text: digits.chars().take(128).collect() };
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| invalid())?;
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest { text: text.chars().take(128).collect() };
        let digits = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        Self::from_hex(digits).map_err(|_| invalid())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Passes a reader's bytes through and computes their digest and number.
pub(crate) struct HashingReader<R> {
    source: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, hash: Sha256::new(), bytes: 0 }
    }

    /// Reads what is left, so that the digest covers the whole source; gives the digest and the total length.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((Digest(self.hash.finalize().into()), self.bytes))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_digest_convert_both_ways() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(digest.short(), "e3b0c44298fc");
    }

    #[test]
    fn what_is_no_sha256_digest_is_refused() {
        let long = format!("sha256:{}", "a".repeat(65));
        let upper = format!("sha256:{}", "A".repeat(64));
        let plain = "a".repeat(64);
        for text in
            ["", "sha256:", "sha256:abc", "sha512:abc", "sha256:../../etc/passwd", &long, &upper, &plain]
        {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_reader_hashes_what_nobody_read_too() {
        let mut reader = HashingReader::new(&b"hello world"[..]);
        let mut half = [0; 5];
        reader.read_exact(&mut half).unwrap();
        assert_eq!(reader.finish().unwrap(), (Digest::of(b"hello world"), 11));
    }
}
