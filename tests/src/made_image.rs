//! Images that a test makes up: a few files in layers, as the blobs of a registry or as an archive.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Content with its digest, and what kind of content it is.
#[derive(Clone, Debug)]
pub struct Blob {
    pub media_type: &'static str,
    pub content: Vec<u8>,
}

impl Blob {
    #[must_use]
    pub fn new(media_type: &'static str, content: Vec<u8>) -> Self {
        Self { media_type, content }
    }

    #[must_use]
    pub fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, value.to_string().into_bytes())
    }

    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.content)
    }

    /// image-spec, descriptor.md.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest(), "size": self.content.len() })
    }
}

/// An image of one platform.
#[derive(Clone, Debug)]
pub struct MadeImage {
    pub layers: Vec<Blob>,
    pub config: Blob,
    pub manifest: Blob,
}

impl MadeImage {
    /// Of these layers, which are tar archives; they become gzip.
    #[must_use]
    pub fn of_layers(layers: &[Vec<u8>]) -> Self {
        Self::for_architecture("amd64", layers)
    }

    /// As [`MadeImage::of_layers`], for other machines than ours.
    #[must_use]
    pub fn for_architecture(architecture: &str, layers: &[Vec<u8>]) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/true"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": diff_ids.iter().map(|id| json!({ "created_by": id })).collect::<Vec<_>>(),
        });
        let layers = layers.iter().map(|layer| Blob::new(LAYER_TYPE, gzip(layer))).collect();
        Self::assembled(layers, Blob::json(CONFIG_TYPE, &config))
    }

    /// The layers of an archive that `docker load` reads, and whose layers are not compressed.
    ///
    /// # Panics
    /// If the archive is none.
    #[must_use]
    pub fn layers_of_archive(path: &Path) -> Vec<Vec<u8>> {
        let archive = fs::read(path).expect("the archive is there");
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().expect("an archive") {
            let mut entry = entry.expect("an archive");
            let name = entry.path().expect("a name").to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("an archive");
            files.insert(name, content);
        }
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).expect("a manifest is JSON");
        let layers = manifest[0]["Layers"].as_array().expect("an image has layers");
        layers.iter().map(|layer| files.remove(layer.as_str().expect("a path")).expect("a layer")).collect()
    }

    /// Of blobs that need not fit together.
    #[must_use]
    pub fn assembled(layers: Vec<Blob>, config: Blob) -> Self {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        Self { layers, config, manifest: Blob::json(MANIFEST_TYPE, &manifest) }
    }

    /// Everything that a registry must hold, layers first.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config, &self.manifest])
    }

    /// Writes an OCI layout as an archive, which skopeo, `docker load` and `berth load` read.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_archive(&self, path: &Path, name: &str) {
        let layers: Vec<String> = self.layers.iter().map(place).collect();
        let docker = json!([{ "Config": place(&self.config), "RepoTags": [name], "Layers": layers }]);
        let files = layout(&self.manifest, self.blobs(), name);
        let files = files.file("manifest.json", docker.to_string().as_bytes());
        fs::write(path, files.tar()).expect("a file can be written");
    }
}

/// One image for each of several architectures.
#[derive(Clone, Debug)]
pub struct MadeIndex {
    pub images: Vec<MadeImage>,
    pub index: Blob,
}

impl MadeIndex {
    #[must_use]
    pub fn of(images: Vec<(&str, MadeImage)>) -> Self {
        let descriptors: Vec<Value> = images
            .iter()
            .map(|(architecture, image)| {
                let mut descriptor = image.manifest.descriptor();
                descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
                descriptor
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": descriptors });
        let images = images.into_iter().map(|(_, image)| image).collect();
        Self { images, index: Blob::json(INDEX_TYPE, &index) }
    }

    /// As [`MadeImage::write_archive`], in the OCI layout alone.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_archive(&self, path: &Path, name: &str) {
        let mut blobs: Vec<&Blob> =
            self.images.iter().flat_map(MadeImage::blobs).chain([&self.index]).collect();
        blobs.sort_by_key(|blob| blob.digest());
        blobs.dedup_by_key(|blob| blob.digest());
        let files = layout(&self.index, blobs.into_iter(), name);
        fs::write(path, files.tar()).expect("a file can be written");
    }
}

/// image-spec, image-layout.md, with the annotations by which containerd and skopeo find a name.
fn layout<'a>(top: &Blob, blobs: impl Iterator<Item = &'a Blob>, name: &str) -> Files {
    let mut descriptor = top.descriptor();
    descriptor["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{name}"),
        "org.opencontainers.image.ref.name": name.rsplit(':').next(),
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor] });
    let files = blobs.fold(Files::new(), |files, blob| files.file(&place(blob), &blob.content));
    let files = files.file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    files.file("index.json", index.to_string().as_bytes())
}

fn place(blob: &Blob) -> String {
    format!("blobs/{}", blob.digest().replace(':', "/"))
}

/// A tar archive that is being written.
pub struct Files(Builder<Vec<u8>>);

impl Files {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a builder starts with `new`")]
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// # Panics
    /// If the path does not fit the format.
    #[must_use]
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        let mut header = header(EntryType::Regular, 0o755);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content).expect("a path that fits");
        self
    }

    /// A symbolic or hard link, wherever it leads.
    ///
    /// # Panics
    /// If the path does not fit the format.
    #[must_use]
    pub fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        self.0.append_link(&mut header(kind, 0o777), path, target).expect("a path that fits");
        self
    }

    /// A file with this name and no other, be it legal or not.
    ///
    /// # Panics
    /// If it is longer than 99 bytes.
    #[must_use]
    pub fn file_named_exactly(mut self, name: &[u8], content: &[u8]) -> Self {
        let mut header = header(EntryType::Regular, 0o644);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        self.0.append(&header, content).expect("memory takes all");
        self
    }

    /// Overwrites the size in the header of the last entry, which is one block of content long.
    ///
    /// # Panics
    /// If there is no such entry.
    #[must_use]
    pub fn with_size_field(mut self, field: &[u8; 12]) -> Self {
        let archive = self.0.get_mut();
        let start = archive.len().checked_sub(1024).expect("a header and a block of content");
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&archive[start..start + 512]);
        header.as_old_mut().size = *field;
        header.set_cksum();
        archive[start..start + 512].copy_from_slice(header.as_bytes());
        self
    }

    /// An extended header (pax(1)) of these bytes for the entry that follows.
    ///
    /// # Panics
    /// Never: memory takes all.
    #[must_use]
    pub fn extended_header(mut self, records: &[u8]) -> Self {
        let mut header = header(EntryType::XHeader, 0o644);
        header.set_size(records.len() as u64);
        self.0.append_data(&mut header, "pax", records).expect("a path that fits");
        self
    }

    /// The archive.
    ///
    /// # Panics
    /// Never: memory takes all.
    #[must_use]
    pub fn tar(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes all")
    }
}

fn header(kind: EntryType, permissions: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(permissions);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_767_225_600);
    header.set_size(0);
    header
}

/// A layer with `files` files of `size_bytes` each that hardly compress; the same seed gives the same bytes.
#[must_use]
pub fn noise_layer(seed: u64, files: usize, size_bytes: usize) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut content = vec![0; size_bytes];
    let mut layer = Files::new();
    for file in 0..files {
        random.fill(&mut content[..]);
        layer = layer.file(&format!("noise/{seed}/{file}"), &content);
    }
    layer.tar()
}

/// # Panics
/// Never: memory takes all.
#[must_use]
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("memory takes all")
}

#[must_use]
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}
