//! Image archives in the making, in every form that the tools of the field write.

use std::io::Write;

use serde_json::{Value, json};

use crate::image::Digest;

/// A tar archive of files.
pub(super) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(super) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(super) fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        let mut header = header(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        // As bytes: the builder would refuse the paths that our tests are about.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub(super) fn link(mut self, path: &str, kind: tar::EntryType, target: &str) -> Self {
        let mut header = header(kind);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn header(kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A layer of one file.
pub(super) fn layer(path: &str, content: &[u8]) -> Vec<u8> {
    Tar::new().file(path, content).bytes()
}

/// The configuration of an image of these plain layers.
pub(super) fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
        "config": {"Cmd": ["/bin/true"], "Env": ["PATH=/bin"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

/// As `docker save` wrote it for years: configuration and layers by their own names, uncompressed.
pub(super) fn docker_save(name: &str, layers: &[&[u8]]) -> Tar {
    let config = config(layers);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let mut archive = Tar::new();
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let path = format!("{number}/layer.tar");
        archive = archive.file(&path, layer);
        names.push(path);
    }
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]);
    archive.file(&config_name, &config).file("manifest.json", manifest.to_string().as_bytes())
}

/// An OCI layout in the making. Blobs first or documents first: readers must not care.
pub(super) struct Oci {
    blobs: Vec<Vec<u8>>,
    manifests: Vec<Value>,
}

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Oci {
    pub(super) fn new() -> Self {
        Self { blobs: Vec::new(), manifests: Vec::new() }
    }

    pub(super) fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let descriptor =
            json!({"mediaType": media_type, "digest": Digest::of(&bytes).to_string(), "size": bytes.len()});
        self.blobs.push(bytes);
        descriptor
    }

    /// Adds an image of these layers, each given plain and as its blob; returns its manifest's descriptor.
    pub(super) fn image(&mut self, layers: &[(&[u8], Vec<u8>)]) -> Value {
        let plain: Vec<&[u8]> = layers.iter().map(|(plain, _)| *plain).collect();
        let config = self.blob("application/vnd.oci.image.config.v1+json", config(&plain));
        let blobs = layers.iter().map(|(_, blob)| blob.clone());
        let layers: Vec<_> =
            blobs.map(|blob| self.blob("application/vnd.oci.image.layer.v1.tar", blob)).collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        self.blob(OCI_MANIFEST, manifest.to_string().into_bytes())
    }

    pub(super) fn list(mut self, descriptor: Value) -> Self {
        self.manifests.push(descriptor);
        self
    }

    pub(super) fn archive(self) -> Tar {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        let mut archive = Tar::new()
            .file("index.json", index.to_string().as_bytes())
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        for blob in self.blobs {
            archive = archive.file(&format!("blobs/sha256/{}", Digest::of(&blob).hex()), &blob);
        }
        archive
    }
}

/// A descriptor with more fields.
pub(super) fn with(mut descriptor: Value, fields: &Value) -> Value {
    let fields = fields.as_object().unwrap().clone();
    descriptor.as_object_mut().unwrap().extend(fields);
    descriptor
}
