//! The keys that leave a container running: `ctrl-p,ctrl-q` unless told otherwise.
//!
//! A pure filter between the keyboard and the container: a prefix of the sequence is held back until the next key
//! shows whether it was meant.

use thiserror::Error;

/// ctrl-p, ctrl-q.
const DEFAULT: [u8; 2] = [0x10, 0x11];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    /// How many keys of the sequence are held back.
    matched: usize,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "invalid detach keys ({keys}): unknown key `{key}`; a key is one character or ctrl- and one of a-z @ [ \\ ] ^ _"
)]
pub(crate) struct DetachKeysError {
    keys: String,
    key: String,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { sequence: DEFAULT.to_vec(), matched: 0 }
    }
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, `a,b`, `ctrl-@` and the like; empty means the default.
    pub(crate) fn parse(keys: &str) -> Result<Self, DetachKeysError> {
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let sequence = keys.split(',').map(|key| {
            key_byte(key).ok_or_else(|| DetachKeysError { keys: keys.to_owned(), key: key.to_owned() })
        });
        Ok(Self { sequence: sequence.collect::<Result<_, _>>()?, matched: 0 })
    }

    /// Appends to `out` what of `typed` goes to the container. True: the sequence is complete, the rest is dropped.
    pub(crate) fn filter(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            while self.matched > 0 && self.sequence[self.matched] != byte {
                let kept = self.border(self.matched);
                out.extend_from_slice(&self.sequence[..self.matched - kept]);
                self.matched = kept;
            }
            if self.sequence[self.matched] != byte {
                out.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.sequence.len() {
                return true;
            }
        }
        false
    }

    /// How many of the last `length` matched keys could be the beginning of the sequence anew.
    fn border(&self, length: usize) -> usize {
        let held = &self.sequence[..length];
        (1..length).rev().find(|&kept| held.ends_with(&self.sequence[..kept])).unwrap_or(0)
    }
}

fn key_byte(key: &str) -> Option<u8> {
    let control = key.strip_prefix("ctrl-");
    match (control.unwrap_or(key).as_bytes(), control.is_some()) {
        ([byte], false) => Some(*byte),
        // The control characters are the letters' codes without their upper bits (ASCII, columns 4 and 5).
        ([byte @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')], true) => Some(byte & 0x1f),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the chunks; returns what reached the container, and whether the user left.
    fn feed(keys: &str, chunks: &[&str]) -> (String, bool) {
        let mut keys = DetachKeys::parse(keys).unwrap();
        let mut out = Vec::new();
        let left = chunks.iter().any(|chunk| keys.filter(chunk.as_bytes(), &mut out));
        (String::from_utf8(out).unwrap(), left)
    }

    #[test]
    fn the_default_is_ctrl_p_ctrl_q_even_over_two_reads() {
        assert_eq!(feed("", &["ls\x10", "\x11more"]), ("ls".to_owned(), true));
    }

    #[test]
    fn a_prefix_that_was_not_meant_reaches_the_container() {
        assert_eq!(feed("", &["\x10", "x\x11"]), ("\x10x\x11".to_owned(), false));
        assert_eq!(feed("", &["\x10\x10\x11"]), ("\x10".to_owned(), true));
    }

    #[test]
    fn a_sequence_that_overlaps_itself_is_found() {
        assert_eq!(feed("a,a,b", &["aaab"]), ("a".to_owned(), true));
        assert_eq!(feed("a,b,a,c", &["ababac"]), ("ab".to_owned(), true));
    }

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        assert_eq!(DetachKeys::parse("ctrl-@,ctrl-[,ctrl-_,x").unwrap().sequence, [0, 27, 31, b'x']);
        for wrong in ["ctrl-", "ctrl-A", "ctrl-p,", "ab", "ctrl-aa"] {
            assert!(DetachKeys::parse(wrong).is_err(), "{wrong}");
        }
    }
}
