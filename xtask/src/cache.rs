//! Keys of what the cache holds: a digest over everything that decides the product.

use sha2::{Digest, Sha256};

/// A digest over named inputs. Each is length-prefixed, so no two lists of inputs look alike.
#[derive(Default)]
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds one input.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, content: &[u8]) -> Self {
        for part in [name.as_bytes(), content] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// 32 hexadecimal digits: short enough to read, long enough never to collide.
    pub(crate) fn digits(self) -> String {
        hex::encode(&self.0.finalize()[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_inputs_changes_the_key() {
        let one = Key::new().with("a", b"bc").digits();
        let other = Key::new().with("ab", b"c").digits();
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
    }
}
