//! Keys of what the cache holds: a digest over everything that decides the product. And locks, so that it is made once.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::progress;

/// Held while what belongs into `directory` is made; freed by the system however that ends.
pub(crate) fn lock(directory: &Path, product: &str) -> anyhow::Result<File> {
    let path = directory.with_extension("lock");
    let parent = directory.parent().context("the cache has no directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::note(format_args!("another build of this {product} is running: waiting for it"));
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

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
