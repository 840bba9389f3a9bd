//! An image's archive, unpacked: to count what is in it, and to make another image of the same layers.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// An OCI image layout (image-spec, image-layout.md) of one image.
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Unpacks an archive of our own.
    pub(super) fn unpack(archive: &std::path::Path, directory: &TempDir) -> anyhow::Result<Self> {
        let file = File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
        tar::Archive::new(file).unpack(directory.path()).context("cannot unpack an image")?;
        Ok(Self { root: directory.path().to_path_buf() })
    }

    /// The files that hold the layers.
    pub(super) fn layers(&self) -> anyhow::Result<Vec<PathBuf>> {
        let manifest = self.blob(&self.index()?["manifests"][0])?;
        let layers = manifest["layers"].as_array().context("a manifest has layers")?;
        layers.iter().map(|layer| self.path(layer)).collect()
    }

    /// Makes it an image that runs something else, and is otherwise the same.
    pub(super) fn change_command(&self, command: &str) -> anyhow::Result<()> {
        let mut index = self.index()?;
        let mut manifest = self.blob(&index["manifests"][0])?;
        let mut config = self.blob(&manifest["config"])?;
        config["config"]["Cmd"] = json!([command]);
        self.replace(&mut manifest["config"], &config)?;
        self.replace(&mut index["manifests"][0], &manifest)?;
        fs::write(self.root.join("index.json"), index.to_string()).context("cannot write an index")
    }

    fn index(&self) -> anyhow::Result<Value> {
        read(&self.root.join("index.json"))
    }

    fn blob(&self, descriptor: &Value) -> anyhow::Result<Value> {
        read(&self.path(descriptor)?)
    }

    fn path(&self, descriptor: &Value) -> anyhow::Result<PathBuf> {
        let digest = descriptor["digest"].as_str().context("a descriptor has a digest")?;
        Ok(self.root.join("blobs").join(digest.replace(':', "/")))
    }

    /// Has the descriptor lead to this instead.
    fn replace(&self, descriptor: &mut Value, content: &Value) -> anyhow::Result<()> {
        let content = content.to_string();
        descriptor["digest"] = json!(format!("sha256:{}", hex::encode(Sha256::digest(&content))));
        descriptor["size"] = json!(content.len());
        fs::write(self.path(descriptor)?, content).context("cannot write a blob")
    }
}

fn read(path: &std::path::Path) -> anyhow::Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// The size of a layer without its compression.
pub(super) fn inflated_bytes(layer: &std::path::Path) -> anyhow::Result<u64> {
    let start = fs::read(layer).with_context(|| format!("cannot read {}", layer.display()))?;
    let counted = match start.as_slice() {
        [0x1f, 0x8b, ..] => io::copy(&mut GzDecoder::new(start.as_slice()), &mut io::sink()),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(start.as_slice())
            .and_then(|mut decoder| io::copy(&mut decoder, &mut io::sink())),
        [] => bail!("{} is empty", layer.display()),
        plain => Ok(plain.len() as u64),
    };
    counted.with_context(|| format!("cannot inflate {}", layer.display()))
}
