//! Reading everything that the store has, and comparing it with what it must be. With `repair`, what can be made again
//! from what is sound is made again.
//!
//! ```text
//! manifest, configuration   their digests are their names
//! blob                      so is its, and its length is recorded
//! layer                     the checksums in its index; made again from a sound blob, proved by its diff id
//! disk                      made again from its layers, it has the same bytes
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::catalog::{BlobRecord, Catalog};
use super::{ImageStore, StoreError};
use crate::image::digest::{Digest, HashingReader};
use crate::image::disk;
use crate::image::layer::{self, Intake};
use crate::image::record::{Configuration, ImageId};

const BUFFER_BYTES: usize = 256 << 10;

/// What a store consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Manifest,
    Configuration,
    Blob,
    Layer,
    Disk,
}

impl Part {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Configuration => "configuration",
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Disk => "disk",
        }
    }
}

/// Something that is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub part: Part,
    /// A layer's diff id, a disk's and a configuration's image id, else the digest of the bytes.
    pub digest: Digest,
    pub problem: String,
    /// Names, or ids, of the images that need it.
    pub images: Vec<String>,
    /// It is sound again; or, of a blob: it is out of the way, and pulling or loading the image again brings it back.
    pub repaired: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// How many of each were looked at.
    pub checked: BTreeMap<Part, u64>,
    pub damages: Vec<Damage>,
}

/// The rows to check against, as they were when the check began.
struct Inventory {
    images: Vec<(ImageId, Vec<u8>, Vec<Digest>)>,
    /// For messages.
    names: HashMap<ImageId, String>,
    blobs: Vec<BlobRecord>,
    layers: BTreeSet<Digest>,
    documents: Vec<Digest>,
    /// Images by the layers and blobs that they have.
    users: HashMap<Digest, Vec<ImageId>>,
}

struct Check<'a> {
    store: &'a ImageStore,
    inventory: Inventory,
    repair: bool,
    progress: &'a mut dyn FnMut(Part, &Digest),
    report: CheckReport,
    unsound_blobs: BTreeSet<Digest>,
}

impl ImageStore {
    /// Reads and compares everything; nothing of it is removed meanwhile. Takes as long as reading all files does.
    ///
    /// # Errors
    /// The database, or the disk that repairs are written to, fails. Damage is no error but in the report.
    pub fn check(
        &self,
        repair: bool,
        progress: &mut dyn FnMut(Part, &Digest),
    ) -> Result<CheckReport, StoreError> {
        let (inventory, pins) = {
            // Nothing that is read goes before it is pinned.
            let _publication = self.lock_publication();
            let inventory = self.shared.database.with(|tx| Inventory::read(&Catalog(tx)))?;
            let pins = self.pin(inventory.digests());
            (inventory, pins)
        };
        let mut check = Check {
            store: self,
            inventory,
            repair,
            progress,
            report: CheckReport::default(),
            unsound_blobs: BTreeSet::new(),
        };
        let checked = check.run();
        let report = check.report;
        drop(pins);
        self.sweep()?;
        checked.map(|()| report)
    }
}

impl Inventory {
    fn read(catalog: &Catalog<'_>) -> Result<Self, StoreError> {
        let mut images = Vec::new();
        let mut users: HashMap<Digest, Vec<ImageId>> = HashMap::new();
        let mut names = HashMap::new();
        for id in catalog.ids()? {
            let config = catalog.config(&id)?.unwrap_or_default();
            let layers = catalog.layers_of(&id)?.unwrap_or_default();
            let name = catalog.names_of(&id)?.first().map_or_else(|| id.short(), |name| name.familiar());
            names.insert(id, name);
            images.push((id, config, layers));
        }
        images.sort_by_key(|(id, ..)| *id);
        for layer in catalog.layer_uses()? {
            users.entry(layer.diff_id).or_default().push(layer.image);
            users.entry(layer.blob).or_default().push(layer.image);
        }
        let mut blobs = Vec::new();
        for digest in catalog.blobs()? {
            blobs.extend(catalog.blob(&digest)?);
        }
        blobs.sort_by_key(|blob| blob.digest);
        let layers = catalog.layers()?.into_iter().collect();
        Ok(Self { images, names, blobs, layers, documents: catalog.document_digests()?, users })
    }

    fn digests(&self) -> impl Iterator<Item = Digest> {
        let blobs = self.blobs.iter().map(|blob| blob.digest);
        blobs.chain(self.layers.iter().copied()).chain(self.documents.iter().copied())
    }
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), StoreError> {
        self.documents()?;
        self.configurations();
        self.blobs()?;
        self.layers()?;
        self.disks()
    }

    fn documents(&mut self) -> Result<(), StoreError> {
        for digest in std::mem::take(&mut self.inventory.documents) {
            self.begin(Part::Manifest, &digest);
            let Some(document) = self.store.document(&digest)? else { continue };
            let actual = Digest::of(&document.content);
            let problem = match document.parse() {
                _ if actual != digest => format!("its digest is {actual}"),
                Err(error) => error.to_string(),
                Ok(_) => continue,
            };
            let users: Vec<_> = self.store.image_of_manifest(&digest)?.into_iter().collect();
            self.damaged(Part::Manifest, digest, problem, &users, false);
        }
        Ok(())
    }

    fn configurations(&mut self) {
        for (id, config, layers) in std::mem::take(&mut self.inventory.images) {
            self.begin(Part::Configuration, &id.0);
            let actual = Digest::of(&config);
            let problem = match serde_json::from_slice::<Configuration>(&config) {
                _ if actual != id.0 => Some(format!("its digest is {actual}")),
                Err(error) => Some(error.to_string()),
                Ok(parsed) if parsed.rootfs.diff_ids != layers => {
                    Some("its layers are not those that the store has for it".to_owned())
                }
                Ok(_) => None,
            };
            if let Some(problem) = problem {
                self.damaged(Part::Configuration, id.0, problem, &[id], false);
            }
            self.inventory.images.push((id, config, layers));
        }
    }

    /// A blob that is not what its name says is of no use to anybody: a repair puts it away.
    fn blobs(&mut self) -> Result<(), StoreError> {
        for blob in self.inventory.blobs.clone() {
            self.begin(Part::Blob, &blob.digest);
            let path = self.store.shared.files.blob(&blob.digest);
            let Some(problem) = blob_problem(&path, &blob) else { continue };
            self.unsound_blobs.insert(blob.digest);
            let mut repaired = false;
            if self.repair && path.exists() {
                fs::remove_file(&path).map_err(|source| failed("removing", &path, source))?;
                repaired = true;
            }
            self.damaged_by_user(Part::Blob, blob.digest, problem, repaired);
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<(), StoreError> {
        for diff_id in self.inventory.layers.clone() {
            self.begin(Part::Layer, &diff_id);
            let Err(error) = layer::verify(&self.store.shared.files.layer(&diff_id).path) else { continue };
            let repaired = self.repair && self.make_layer_again(&diff_id)?;
            self.damaged_by_user(Part::Layer, diff_id, chain(&error), repaired);
        }
        Ok(())
    }

    /// From any sound blob of it. Whoever has the old files open keeps them.
    fn make_layer_again(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let files = &self.store.shared.files;
        let sound =
            |blob: &&BlobRecord| blob.diff_id == *diff_id && !self.unsound_blobs.contains(&blob.digest);
        let Some(blob) = self.inventory.blobs.iter().find(sound) else { return Ok(false) };
        let staging = files.staging_directory().map_err(|source| failed("using", files.root(), source))?;
        let directory = staging.path().join("layer");
        let written = |source| failed("writing", &directory, source);
        fs::create_dir(&directory).map_err(written)?;
        let path = files.blob(&blob.digest);
        let source = File::open(&path).map_err(|source| failed("reading", &path, source))?;
        let intake = Intake { blob: None, diff_id: *diff_id, directory: &directory };
        match intake.run(source, &|_| {}) {
            Ok(_taken) => {}
            Err(error) if error.is_layers_fault() => return Ok(false),
            Err(error) => return Err(written(io::Error::other(chain(&error)))),
        }
        let target = files.layer(diff_id).path;
        let _publication = self.store.lock_publication();
        if target.exists() {
            fs::rename(&target, staging.path().join("damaged")).map_err(written)?;
        }
        fs::rename(&directory, &target).map_err(written)?;
        files.sync_all().map_err(written)?;
        Ok(true)
    }

    fn disks(&mut self) -> Result<(), StoreError> {
        for (id, _, layers) in std::mem::take(&mut self.inventory.images) {
            self.begin(Part::Disk, &id.0);
            let layers: Vec<_> =
                layers.iter().map(|diff_id| self.store.shared.files.layer(diff_id)).collect();
            let files = &self.store.shared.files;
            let path = files.disk(&id);
            let staging =
                files.staging_directory().map_err(|source| failed("using", files.root(), source))?;
            let made = staging.path().join("disk");
            let (problem, repaired) = match disk::build(id.0, &layers, &made) {
                // Its layers are what is damaged, and told already.
                Err(error) => (Some(format!("it cannot be compared: {}", chain(&error))), false),
                Ok(()) => match same_bytes(&path, &made) {
                    Ok(true) => (None, false),
                    Ok(false) => {
                        (Some("it is not what its layers make".to_owned()), self.put_disk(&made, &path)?)
                    }
                    // It is built when it is needed: by the first container, or now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        if self.has_image(&id)? {
                            self.put_disk(&made, &path)?;
                        }
                        (None, false)
                    }
                    Err(error) => (Some(error.to_string()), self.put_disk(&made, &path)?),
                },
            };
            if let Some(problem) = problem {
                self.damaged(Part::Disk, id.0, problem, &[id], repaired);
            }
        }
        Ok(())
    }

    fn put_disk(&self, made: &Path, path: &Path) -> Result<bool, StoreError> {
        if !self.repair {
            return Ok(false);
        }
        let _publication = self.store.lock_publication();
        let moved = fs::rename(made, path).and_then(|()| self.store.shared.files.sync_disks());
        moved.map(|()| true).map_err(|source| failed("writing", path, source))
    }

    fn has_image(&self, id: &ImageId) -> Result<bool, StoreError> {
        self.store.shared.database.with(|tx| Catalog(tx).has_image(id))
    }

    fn begin(&mut self, part: Part, digest: &Digest) {
        (self.progress)(part, digest);
        *self.report.checked.entry(part).or_default() += 1;
    }

    fn damaged_by_user(&mut self, part: Part, digest: Digest, problem: String, repaired: bool) {
        let users = self.inventory.users.get(&digest).cloned().unwrap_or_default();
        self.damaged(part, digest, problem, &users, repaired);
    }

    fn damaged(&mut self, part: Part, digest: Digest, problem: String, users: &[ImageId], repaired: bool) {
        let name = |id: &ImageId| self.inventory.names.get(id).cloned().unwrap_or_else(|| id.short());
        let images: BTreeSet<String> = users.iter().map(name).collect();
        let images = images.into_iter().collect();
        self.report.damages.push(Damage { part, digest, problem, images, repaired });
    }
}

fn blob_problem(path: &Path, blob: &BlobRecord) -> Option<String> {
    let hashed = File::open(path).and_then(|file| HashingReader::new(file).finish());
    match hashed {
        Err(error) => Some(error.to_string()),
        Ok((_, bytes)) if bytes != blob.size_bytes => {
            Some(format!("it has {bytes} bytes instead of {}", blob.size_bytes))
        }
        Ok((digest, _)) if digest != blob.digest => Some(format!("its digest is {digest}")),
        Ok(_) => None,
    }
}

/// An error of the second file counts as one of the first: it was just written.
fn same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    let length_bytes = one.metadata()?.len();
    if length_bytes != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    let (mut left, mut right) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut left_bytes = length_bytes;
    while left_bytes > 0 {
        let count = usize::try_from(left_bytes).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        one.read_exact(&mut left[..count])?;
        other.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
        left_bytes -= count as u64;
    }
    Ok(true)
}

fn failed(step: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::File { step, path: path.to_owned(), source }
}

/// An error and its causes, joined.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}
