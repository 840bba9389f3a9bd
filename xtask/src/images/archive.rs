//! An image as one archive: an OCI image layout (image-spec, image-layout.md) that carries the `manifest.json`
//! of `docker save` beside its index, so that both kinds of reader find what they look for.

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::Layer;

/// All images have this date: the day of a build would change their ids.
const CREATED: &str = "2026-01-01T00:00:00Z";
/// The same in seconds since 1970.
pub(super) const CREATED_UNIX_S: u64 = 1_767_225_600;
const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image of one layer for amd64.
pub(super) struct Image {
    /// The repository; the tag is `latest`.
    pub(super) name: &'static str,
    /// What `history` says of the layer.
    pub(super) made_by: &'static str,
    /// Runs when the user names no command.
    pub(super) command: String,
    /// An uncompressed tar archive.
    pub(super) layer: Vec<u8>,
}

/// Content under its digest.
struct Blob {
    media_type: &'static str,
    digits: String,
    content: Vec<u8>,
}

impl Image {
    /// # Errors
    /// When a name does not fit the tar format.
    pub(super) fn archive(self) -> anyhow::Result<Vec<u8>> {
        let reference = format!("{}:latest", self.name);
        let layer_digest = digest(&self.layer);
        let config = Blob::json("application/vnd.oci.image.config.v1+json", &self.config(&layer_digest));
        let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", self.layer);
        let manifest = Blob::json(
            "application/vnd.oci.image.manifest.v1+json",
            &json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config.descriptor(),
                "layers": [layer.descriptor()],
            }),
        );
        let index = index(&manifest, &reference);
        let docker_manifest =
            json!([{ "Config": config.path(), "RepoTags": [reference], "Layers": [layer.path()] }]);

        let mut archive = Layer::new();
        archive.directory("blobs", 0o755)?;
        archive.directory("blobs/sha256", 0o755)?;
        for blob in [&config, &layer, &manifest] {
            archive.file(&blob.path(), 0o644, &blob.content)?;
        }
        archive.file("index.json", 0o644, &bytes(&index))?;
        archive.file("manifest.json", 0o644, &bytes(&docker_manifest))?;
        archive.file("oci-layout", 0o644, &bytes(&json!({ "imageLayoutVersion": "1.0.0" })))?;
        archive.finish().context("cannot finish the archive")
    }

    /// image-spec, config.md.
    fn config(&self, layer_digest: &str) -> Value {
        json!({
            "created": CREATED,
            "architecture": "amd64",
            "os": "linux",
            "config": { "Env": [SEARCH_PATH], "Cmd": [self.command], "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
            "history": [{ "created": CREATED, "created_by": self.made_by }],
        })
    }
}

/// image-spec, image-index.md; the annotations are those by which containerd and podman find the name.
fn index(manifest: &Blob, reference: &str) -> Value {
    let mut descriptor = manifest.descriptor();
    descriptor["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    descriptor["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{reference}"),
        "org.opencontainers.image.ref.name": "latest",
    });
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor],
    })
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
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn example() -> Image {
        let mut layer = Layer::new();
        layer.directory("etc", 0o755).unwrap();
        layer.file("etc/name", 0o644, b"example\n").unwrap();
        layer.hard_link("etc/other", "etc/name").unwrap();
        let layer = layer.finish().unwrap();
        Image { name: "example", made_by: "a test", command: "/run".to_owned(), layer }
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
}
