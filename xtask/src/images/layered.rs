//! `layered:latest`: busybox with nine layers on top, which add, replace, link and hide files: what an image that was
//! built in ten steps looks like to a store.

use super::archive::{self, Compression, Image};
use super::busybox;
use super::layer::Layer;

pub(super) const NAME: &str = "layered";
/// Above busybox.
const UPPER_LAYERS: u64 = 9;
const FILES_PER_LAYER: u64 = 250;
/// A file's size is a power of two, from one byte up to this power.
const LARGEST_POWER: u64 = 18;
/// Files that are not small get some more, so that a layer has some 10 MB.
const EVERY_LARGE: u64 = 8;
const LARGE_BYTES: usize = 200_000;

pub(super) fn image() -> anyhow::Result<Image> {
    let mut layers = vec![busybox::layer()?.into()];
    for number in 1..=UPPER_LAYERS {
        layers.push(upper(number)?.into());
    }
    Ok(Image {
        name: NAME,
        made_by: "files without meaning, by Berth",
        defaults: archive::runs("sh"),
        layers,
        compression: Compression::Gzip,
    })
}

fn upper(number: u64) -> anyhow::Result<Vec<u8>> {
    let mut random = Random(number);
    let mut layer = Layer::new();
    layer.directory("data", 0o755)?;
    layer.directory(&format!("data/{number}"), 0o755)?;
    for file in 0..FILES_PER_LAYER {
        let small = 1 << (random.next() % LARGEST_POWER);
        let size_bytes = if file % EVERY_LARGE == 0 { LARGE_BYTES } else { small };
        layer.file(&path(number, file), 0o644, &random.text(size_bytes))?;
    }
    match number {
        // A file of each layer below is replaced, another hidden.
        5 => {
            for below in 1..number {
                layer.file(&path(below, 1), 0o600, format!("replaced by {number}").as_bytes())?;
                layer.file(&format!("data/{below}/.wh.file-2"), 0o644, b"")?;
            }
        }
        // Nothing is left of the first but one file.
        7 => {
            layer.directory("data/1", 0o700)?;
            layer.file("data/1/.wh..wh..opq", 0o644, b"")?;
            layer.file("data/1/only", 0o644, b"the rest is hidden")?;
        }
        9 => {
            layer.hard_link("data/9/same", &path(9, 0))?;
            layer.symlink("data/9/elsewhere", "../8/file-0")?;
        }
        _ => {}
    }
    layer.finish()
}

fn path(layer: u64, file: u64) -> String {
    format!("data/{layer}/file-{file}")
}

/// Xorshift by Marsaglia: the same numbers for ever, which the images' digests depend on.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Hexadecimal digits: they compress to a little more than half, as programs do.
    fn text(&mut self, size_bytes: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(size_bytes + 16);
        while text.len() < size_bytes {
            text.extend(format!("{:016x}", self.next()).bytes());
        }
        text.truncate(size_bytes);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_the_same_each_time_and_unlike_the_others() {
        assert_eq!(upper(5).unwrap(), upper(5).unwrap());
        assert_ne!(upper(2).unwrap(), upper(3).unwrap());
    }

    #[test]
    fn the_seventh_layer_hides_the_first() {
        let layer = upper(7).unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let paths = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
        assert!(paths.into_iter().any(|path| path.ends_with("data/1/.wh..wh..opq")));
    }
}
