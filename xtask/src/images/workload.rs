//! `workload:latest`: what the benchmark of shares and disks runs in containers and, from the same files, beside them.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::archive::{Compression, Image};
use super::installed::{self, Recipe};

/// Of the image and its archive.
pub(crate) const NAME: &str = "workload";
/// A file to be read, in the image.
pub(crate) const DATA: &str = "var/lib/workload";
pub(crate) const DATA_BYTES: usize = 64 << 20;

const RECIPE: Recipe = Recipe {
    name: NAME,
    packages: &["fio", "git"],
    finish: |root| {
        let path = root.join(DATA);
        fs::write(&path, noise(DATA_BYTES)).with_context(|| format!("cannot write {}", path.display()))
    },
    defaults: || json!({}),
    // Which old peers take, too.
    compression: Compression::Gzip,
};

/// What decides the image beside the packages.
pub(super) const INPUTS: [(&str, &str); 2] =
    [("install.sh", installed::SCRIPT), ("data", "xorshift, 64 MiB, gzip")];

/// Made from the archive of the Debian image.
pub(super) fn images(debian: &Path) -> anyhow::Result<Vec<Image>> {
    installed::images(debian, &[RECIPE])
}

/// The same each time, and nothing that anybody could compress: Marsaglia's xorshift.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes / size_of::<u64>()).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_each_time_and_has_no_pattern() {
        let noise = noise(1 << 16);
        assert_eq!(noise, super::noise(1 << 16));
        let compressed = zstd::encode_all(noise.as_slice(), 3).unwrap();
        assert!(compressed.len() >= noise.len(), "{}", compressed.len());
    }
}
