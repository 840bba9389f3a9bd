//! The key sequence that ends an attach and lets the process go on, `ctrl-p,ctrl-q` unless the client names another.

use bytes::{Bytes, BytesMut};

use crate::api::error::ApiError;

const DEFAULT: [u8; 2] = [0x10, 0x11];
/// More keys than anybody presses.
const MAX_KEYS: usize = 16;

/// Looks for the sequence in what is typed. Keys that may begin it are held back until it is clear whether they do.
#[derive(Clone, Debug)]
pub(in crate::api) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// What came of some typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) enum Typed {
    /// For the process.
    Input(Bytes),
    /// For the process; then the sequence was complete, and nothing more is read.
    Detach(Bytes),
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: DEFAULT.to_vec(), matched: 0 }
    }
}

impl DetachKeys {
    /// `text` as clients write it: "ctrl-a,b,DEL".
    ///
    /// # Errors
    /// Docker's text for a key that is none.
    pub(in crate::api) fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        let Some(text) = text else { return Ok(Self::default()) };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        match keys {
            Some(keys) if keys.len() <= MAX_KEYS => Ok(Self { keys, matched: 0 }),
            _ => Err(ApiError::invalid(format!("Invalid detach keys ({text}) provided"))),
        }
    }

    /// Those that [`Self::as_bytes`] gave; none are the usual ones.
    pub(in crate::api) fn of(keys: Vec<u8>) -> Self {
        if keys.is_empty() { Self::default() } else { Self { keys, matched: 0 } }
    }

    pub(in crate::api) fn as_bytes(&self) -> &[u8] {
        &self.keys
    }

    /// Takes the next typed bytes.
    pub(in crate::api) fn take(&mut self, typed: &[u8]) -> Typed {
        let mut input = BytesMut::with_capacity(typed.len() + self.matched);
        for &byte in typed {
            if byte != self.keys[self.matched] {
                input.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte != self.keys[self.matched] {
                input.extend_from_slice(&[byte]);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                return Typed::Detach(input.freeze());
            }
        }
        Typed::Input(input.freeze())
    }
}

/// One key: a character, "DEL", or "ctrl-" with a letter or one of `@[\]^_`.
fn key(text: &str) -> Option<u8> {
    if let [byte] = text.as_bytes() {
        return byte.is_ascii().then_some(*byte);
    }
    if text == "DEL" {
        return Some(0x7f);
    }
    match text.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [other @ (b'@' | b'['..=b'_')] => Some(other - b'@'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &'static [u8]) -> Typed {
        Typed::Input(Bytes::from_static(bytes))
    }

    #[test]
    fn keys_are_written_as_dockers() {
        for (text, keys) in
            [("ctrl-a", vec![1]), ("ctrl-@,ctrl-[,ctrl-_", vec![0, 27, 31]), ("a,DEL", vec![b'a', 127])]
        {
            assert_eq!(DetachKeys::parse(Some(text)).unwrap().keys, keys, "{text}");
        }
        for text in ["ctrl-A", "ctrl-", "aa", "a,,b", "ä"] {
            assert!(DetachKeys::parse(Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn the_sequence_detaches_even_across_reads() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.take(b"ab\x10"), input(b"ab"));
        assert_eq!(keys.take(b"\x11rest"), Typed::Detach(Bytes::new()));
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_delivered() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.take(b"\x10"), input(b""));
        assert_eq!(keys.take(b"x"), input(b"\x10x"));
        assert_eq!(keys.take(b"\x10\x10\x11"), Typed::Detach(Bytes::from_static(b"\x10")));
    }
}
