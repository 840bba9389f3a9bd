//! Images as one archive: an OCI image layout (image-spec, image-layout.md) that carries the `manifest.json`
//! of `docker save` beside its index, so that both kinds of reader find what they look for.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, bail};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::Layer;

/// All images have this date: the day of a build would change their ids.
const CREATED: &str = "2026-01-01T00:00:00Z";
/// The same in seconds since 1970.
pub(super) const CREATED_UNIX_S: u64 = 1_767_225_600;
pub(super) const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image for amd64.
pub(super) struct Image {
    /// The repository; the tag is `latest`.
    pub(super) name: &'static str,
    /// What `history` says of each layer.
    pub(super) made_by: &'static str,
    /// What a container of it is like unless its user says otherwise: the `config` of image-spec, config.md.
    pub(super) defaults: Value,
    /// Uncompressed tar archives, the lowest first.
    pub(super) layers: Vec<Rc<[u8]>>,
    pub(super) compression: Compression,
}

/// How layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Content under its digest.
struct Blob {
    media_type: &'static str,
    digits: String,
    content: Vec<u8>,
}

/// The defaults of an image that runs this unless its user names another command.
pub(super) fn runs(command: &str) -> Value {
    json!({ "Env": [SEARCH_PATH], "Cmd": [command], "WorkingDir": "/" })
}

impl Image {
    /// # Errors
    /// When a name does not fit the tar format.
    pub(super) fn archive(&self) -> anyhow::Result<Vec<u8>> {
        archive(std::slice::from_ref(self))
    }

    fn reference(&self) -> String {
        format!("{}:latest", self.name)
    }

    /// image-spec, config.md.
    fn config(&self, diff_ids: &[String]) -> Value {
        let history = json!({ "created": CREATED, "created_by": self.made_by });
        json!({
            "created": CREATED,
            "architecture": "amd64",
            "os": "linux",
            "config": self.defaults,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": vec![history; diff_ids.len()],
        })
    }
}

/// All of them, with what several have in common stored once.
///
/// # Errors
/// When a name does not fit the tar format.
pub(super) fn archive(images: &[Image]) -> anyhow::Result<Vec<u8>> {
    let mut contents = Contents::default();
    for image in images {
        contents.add(image)?;
    }
    contents.write()
}

/// The only layer of the image in an archive that [`Image::archive`] made, uncompressed.
///
/// # Errors
/// When it has another form.
pub(super) fn only_layer(archive: &[u8]) -> anyhow::Result<Vec<u8>> {
    let manifest: Value = serde_json::from_slice(&file(archive, "manifest.json")?)?;
    let [layer] = manifest[0]["Layers"].as_array().map_or(&[][..], Vec::as_slice) else {
        bail!("the image has not one layer");
    };
    let stored = file(archive, layer.as_str().unwrap_or_default())?;
    let mut layer = Vec::new();
    GzDecoder::new(stored.as_slice()).read_to_end(&mut layer).context("cannot decompress the layer")?;
    Ok(layer)
}

/// Unpacks the image of an archive whose layers are stored as gzip, one above the other; what a layer removes stays.
///
/// # Errors
/// It has another form, or we are not root.
pub(super) fn unpack(archive: &[u8], root: &Path) -> anyhow::Result<()> {
    let manifest: Value = serde_json::from_slice(&file(archive, "manifest.json")?)?;
    for layer in manifest[0]["Layers"].as_array().context("an image has layers")? {
        let stored = file(archive, layer.as_str().unwrap_or_default())?;
        let mut layer = tar::Archive::new(GzDecoder::new(stored.as_slice()));
        layer.set_preserve_permissions(true);
        layer.set_preserve_ownerships(true);
        layer.unpack(root).with_context(|| format!("cannot unpack an image into {}", root.display()))?;
    }
    Ok(())
}

fn file(archive: &[u8], path: &str) -> anyhow::Result<Vec<u8>> {
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.path()?.as_os_str() == path {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            return Ok(content);
        }
    }
    bail!("the archive has no {path}")
}

/// What goes into an archive.
#[derive(Default)]
struct Contents {
    /// By their digests.
    blobs: BTreeMap<String, Rc<Blob>>,
    /// By their digests before compression, and how they are compressed.
    layers: BTreeMap<(String, Compression), Rc<Blob>>,
    /// For either kind of reader, one entry an image.
    manifests: Vec<Value>,
    docker_manifests: Vec<Value>,
}

impl Contents {
    fn add(&mut self, image: &Image) -> anyhow::Result<()> {
        let diff_ids: Vec<String> = image.layers.iter().map(|layer| digest(layer)).collect();
        let mut layers = Vec::new();
        for (layer, diff_id) in image.layers.iter().zip(&diff_ids) {
            layers.push(self.layer(layer, diff_id, image.compression)?);
        }
        let config = Blob::json("application/vnd.oci.image.config.v1+json", &image.config(&diff_ids));
        let manifest = Blob::json(
            "application/vnd.oci.image.manifest.v1+json",
            &json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config.descriptor(),
                "layers": layers.iter().map(|layer| layer.descriptor()).collect::<Vec<_>>(),
            }),
        );
        let paths: Vec<String> = layers.iter().map(|layer| layer.path()).collect();
        let reference = image.reference();
        self.manifests.push(index_entry(&manifest, &reference));
        self.docker_manifests
            .push(json!({ "Config": config.path(), "RepoTags": [reference], "Layers": paths }));
        for blob in [config, manifest] {
            self.blobs.insert(blob.digits.clone(), Rc::new(blob));
        }
        Ok(())
    }

    fn layer(&mut self, layer: &[u8], diff_id: &str, compression: Compression) -> anyhow::Result<Rc<Blob>> {
        let key = (diff_id.to_owned(), compression);
        if let Some(stored) = self.layers.get(&key) {
            return Ok(Rc::clone(stored));
        }
        let stored = Rc::new(compression.store(layer)?);
        self.blobs.insert(stored.digits.clone(), Rc::clone(&stored));
        self.layers.insert(key, Rc::clone(&stored));
        Ok(stored)
    }

    fn write(&self) -> anyhow::Result<Vec<u8>> {
        // image-spec, image-index.md.
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.manifests,
        });
        let mut archive = Layer::new();
        archive.directory("blobs", 0o755)?;
        archive.directory("blobs/sha256", 0o755)?;
        for blob in self.blobs.values() {
            archive.file(&blob.path(), 0o644, &blob.content)?;
        }
        archive.file("index.json", 0o644, &bytes(&index))?;
        archive.file("manifest.json", 0o644, &bytes(&json!(self.docker_manifests)))?;
        archive.file("oci-layout", 0o644, &bytes(&json!({ "imageLayoutVersion": "1.0.0" })))?;
        archive.finish().context("cannot finish the archive")
    }
}

impl Compression {
    fn store(self, layer: &[u8]) -> anyhow::Result<Blob> {
        let failed = "cannot compress a layer";
        Ok(match self {
            Self::None => Blob::new("application/vnd.oci.image.layer.v1.tar", layer.to_vec()),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                let content = encoder.write_all(layer).and_then(|()| encoder.finish()).context(failed)?;
                Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", content)
            }
            Self::Zstd => {
                let content = zstd::encode_all(layer, zstd::DEFAULT_COMPRESSION_LEVEL).context(failed)?;
                Blob::new("application/vnd.oci.image.layer.v1.tar+zstd", content)
            }
        })
    }
}

/// An image's place in the index; the annotations are those by which containerd and podman find the name.
fn index_entry(manifest: &Blob, reference: &str) -> Value {
    let mut descriptor = manifest.descriptor();
    descriptor["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    descriptor["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{reference}"),
        "org.opencontainers.image.ref.name": "latest",
    });
    descriptor
}

impl Blob {
    fn new(media_type: &'static str, content: Vec<u8>) -> Self {
        let digits = hex::encode(Sha256::digest(&content));
        Self { media_type, digits, content }
    }

    fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, bytes(value))
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digits)
    }

    fn descriptor(&self) -> Value {
        let digest = format!("sha256:{}", self.digits);
        json!({ "mediaType": self.media_type, "digest": digest, "size": self.content.len() })
    }
}

/// Object keys come out sorted, which is what makes the text, and so its digest, repeatable.
fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Image {
        example_stored(Compression::None)
    }

    fn example_stored(compression: Compression) -> Image {
        let mut layer = Layer::new();
        layer.directory("etc", 0o755).unwrap();
        layer.file("etc/name", 0o644, b"example\n").unwrap();
        layer.hard_link("etc/other", "etc/name").unwrap();
        let layers = vec![layer.finish().unwrap().into()];
        Image { name: "example", made_by: "a test", defaults: runs("/run"), layers, compression }
    }

    fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(path, content);
        }
        files
    }

    fn parse(content: &[u8]) -> Value {
        serde_json::from_slice(content).unwrap()
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(example().archive().unwrap(), example().archive().unwrap());
    }

    #[test]
    fn every_blob_is_named_by_its_digest() {
        let files = unpack(&example().archive().unwrap());
        let blobs: Vec<_> = files.iter().filter(|(path, _)| path.len() > "blobs/sha256/".len()).collect();
        assert_eq!(blobs.len(), 3);
        for (path, content) in blobs {
            assert_eq!(format!("blobs/{}", digest(content).replace(':', "/")), *path);
        }
    }

    #[test]
    fn a_diff_id_is_that_of_the_uncompressed_layer() {
        let config = |compression| {
            let files = unpack(&example_stored(compression).archive().unwrap());
            let docker = parse(&files["manifest.json"]);
            let stored = files[docker[0]["Layers"][0].as_str().unwrap()].clone();
            (docker[0]["Config"].clone(), stored)
        };
        let (plain, layer) = config(Compression::None);
        let (gzip, stored) = config(Compression::Gzip);
        assert_eq!(gzip, plain);
        let mut inflated = Vec::new();
        GzDecoder::new(stored.as_slice()).read_to_end(&mut inflated).unwrap();
        assert_eq!(inflated, layer);
        assert_eq!(only_layer(&example_stored(Compression::Gzip).archive().unwrap()).unwrap(), layer);
        let (zstd, stored) = config(Compression::Zstd);
        assert_eq!(zstd, plain);
        assert_eq!(zstd::decode_all(stored.as_slice()).unwrap(), layer);
    }

    #[test]
    fn docker_and_oci_readers_find_the_same_image() {
        let files = unpack(&example().archive().unwrap());
        let docker = parse(&files["manifest.json"]);
        assert_eq!(docker[0]["RepoTags"][0], "example:latest");
        let index = parse(&files["index.json"]);
        let manifest_digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
        let manifest = parse(&files[&format!("blobs/{manifest_digest}")]);
        let config_path = docker[0]["Config"].as_str().unwrap();
        let config_digest = manifest["config"]["digest"].as_str().unwrap().replace(':', "/");
        assert_eq!(config_path, format!("blobs/{config_digest}"));
        let layer = &files[docker[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(manifest["layers"][0]["size"], layer.len());
        assert_eq!(parse(&files[config_path])["rootfs"]["diff_ids"][0], digest(layer));
    }

    #[test]
    fn what_two_images_have_in_common_is_stored_once() {
        let lower = example();
        let mut upper = Image { name: "upper", ..example() };
        upper.layers.push(Layer::new().finish().unwrap().into());
        let files = unpack(&archive(&[lower, upper]).unwrap());
        let docker = parse(&files["manifest.json"]);
        assert_eq!(docker[1]["RepoTags"][0], "upper:latest");
        assert_eq!(docker[0]["Layers"][0], docker[1]["Layers"][0]);
        assert_eq!(parse(&files["index.json"])["manifests"].as_array().unwrap().len(), 2);
        let blobs =
            files.keys().filter(|path| path.len() > "blobs/sha256/".len() && path.starts_with("blobs"));
        assert_eq!(blobs.count(), 2 + 2 * 2, "two layers, and a configuration and a manifest for each image");
    }
}
