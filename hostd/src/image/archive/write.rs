//! Writing image archives: one tar that is both an OCI layout (OCI image-spec 1.1, image-layout.md) and what
//! `docker load` has always read (moby image spec 1.2). The same images give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::oci::{NAME_ANNOTATION, REF_NAME_ANNOTATION};
use super::spool::blob_name;
use super::{docker, oci};
use crate::image::digest::Digest;
use crate::image::manifest::{Class, Descriptor, Dialect, MediaType};
use crate::image::record::ImageId;
use crate::image::reference::{Reference, Selector};

/// An image to write, under one name or none.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingImage {
    pub(crate) id: ImageId,
    pub(crate) name: Option<Reference>,
    /// What the name stands for: an index, or the image's manifest.
    pub(crate) target: Descriptor,
    /// Blobs, base first.
    pub(crate) layers: Vec<Digest>,
}

/// A file of the archive, named by its digest.
#[derive(Clone, Debug)]
pub(crate) enum OutgoingBlob {
    Document(bytes::Bytes),
    /// A layer in the store.
    File {
        path: PathBuf,
        size_bytes: u64,
    },
}

/// Writes everything that the images and blobs are; they must be complete.
pub(crate) fn write(
    images: &[OutgoingImage],
    blobs: &BTreeMap<Digest, OutgoingBlob>,
    target: impl Write,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(target);
    for directory in ["blobs/", "blobs/sha256/"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, directory, io::empty())?;
    }
    for (digest, blob) in blobs {
        let name = blob_name(*digest);
        match blob {
            OutgoingBlob::Document(bytes) => append(&mut archive, &name, bytes)?,
            OutgoingBlob::File { path, size_bytes } => {
                let mut header = header(tar::EntryType::Regular, 0o644, *size_bytes);
                archive.append_data(&mut header, name, Exactly::open(path, *size_bytes)?)?;
            }
        }
    }
    append(&mut archive, oci::INDEX, index(images).to_string().as_bytes())?;
    append(&mut archive, docker::MANIFEST, manifest(images).to_string().as_bytes())?;
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let repositories = repositories(images);
    if !repositories.is_empty() {
        append(&mut archive, "repositories", json!(repositories).to_string().as_bytes())?;
    }
    archive.into_inner()?.flush()
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
    archive.append_data(&mut header, name, bytes)
}

/// Times and owners say nothing of an image, and would make two archives of it differ.
fn header(kind: tar::EntryType, mode: u32, size_bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size_bytes);
    header
}

/// A file that must have as many bytes as its header already says.
struct Exactly {
    file: File,
    path: PathBuf,
    left_bytes: u64,
}

impl Exactly {
    fn open(path: &PathBuf, size_bytes: u64) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.clone(), left_bytes: size_bytes })
    }
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let read = count as u64;
        if read > self.left_bytes || (read == 0 && self.left_bytes > 0 && !buffer.is_empty()) {
            return Err(io::Error::other(format!("{} is not as long as it was", self.path.display())));
        }
        self.left_bytes -= read;
        Ok(count)
    }
}

fn index(images: &[OutgoingImage]) -> Value {
    let manifests = images.iter().map(|image| {
        let target = &image.target;
        let mut descriptor =
            json!({ "mediaType": target.media_type, "digest": target.digest, "size": target.size_bytes });
        if let Some(name) = &image.name {
            descriptor["annotations"] =
                json!({ NAME_ANNOTATION: name.canonical(), REF_NAME_ANNOTATION: tag(name) });
        }
        descriptor
    });
    let media_type = MediaType::of(Class::Index(Dialect::Oci)).expect("it is in the table");
    json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests.collect::<Vec<_>>() })
}

/// Docker's list has each image once, with all its names.
fn manifest(images: &[OutgoingImage]) -> Value {
    let mut seen = BTreeSet::new();
    let items = images.iter().filter(|image| seen.insert(image.id)).map(|image| {
        let same = images.iter().filter(|other| other.id == image.id);
        let names: Vec<_> = same.filter_map(|other| other.name.as_ref()).map(Reference::familiar).collect();
        let layers: Vec<_> = image.layers.iter().map(|layer| blob_name(*layer)).collect();
        json!({
            "Config": blob_name(image.id.0),
            "RepoTags": if names.is_empty() { Value::Null } else { json!(names) },
            "Layers": layers,
        })
    });
    Value::Array(items.collect())
}

/// What the oldest readers look at: names, and the uppermost layer of each.
fn repositories(images: &[OutgoingImage]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in images {
        if let (Some(name), Some(layer)) = (&image.name, image.layers.last()) {
            let tags = repositories.entry(name.repository.familiar().to_owned()).or_default();
            tags.insert(tag(name), layer.hex());
        }
    }
    repositories
}

fn tag(name: &Reference) -> String {
    match &name.selector {
        Selector::Tag(tag) => tag.clone(),
        Selector::Manifest(digest) => digest.to_string(),
    }
}
