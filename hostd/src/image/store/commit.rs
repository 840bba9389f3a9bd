//! Committing: a layer that comes as a plain archive becomes an image on top of another one.
//!
//! The archive is kept as it comes first, because whoever sends it may have to stand still for that; compressing it and
//! taking it in follow side by side. Everything lies in the staging area until it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::arrive::{ArrivalError, ArrivingImage, BLOB, LAYER, LayerSource};
use super::catalog::Catalog;
use super::{ImageStore, Pins, StoreError};
use crate::image::compression::gzip;
use crate::image::digest::Digest;
use crate::image::layer::{Intake, LayerError, SpaceWatch};
use crate::image::manifest::{MAX_LAYERS, Platform};
use crate::image::record::{ImageConfig, ImageId};
use crate::image::reference::Reference;

/// What an archive without entries is: an image with such a layer has none (moby, `layer.DigestSHA256EmptyTar`).
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];

/// What a committed image says of itself.
#[derive(Clone, Debug)]
pub(crate) struct CommitSpec {
    /// The image that the layer lies on.
    pub(crate) parent: ImageId,
    pub(crate) name: Option<Reference>,
    pub(crate) config: ImageConfig,
    pub(crate) author: String,
    /// Of the layer, kept in the history.
    pub(crate) comment: String,
    /// What made the layer, kept in the history.
    pub(crate) created_by: String,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("No such image: {0}")]
    NoSuchImage(ImageId),
    #[error("image {0} has {MAX_LAYERS} layers already, and no more are possible")]
    TooManyLayers(ImageId),
    #[error("the blobs of some layers of image {0} are missing: load or pull it again")]
    Incomplete(ImageId),
    #[error("the layer")]
    Layer(#[source] LayerError),
    #[error(transparent)]
    Arrival(ArrivalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<LayerError> for CommitError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

impl From<ArrivalError> for CommitError {
    fn from(error: ArrivalError) -> Self {
        match error {
            ArrivalError::Layer { source, .. } => Self::Layer(source),
            error => Self::Arrival(error),
        }
    }
}

/// A layer's archive on its way into the store. What was kept of it goes when it goes.
#[derive(Debug)]
pub(crate) struct LayerSpool {
    staging: TempDir,
    path: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
    space: SpaceWatch,
}

/// What of the parent is not the child's own.
struct Parent {
    configuration: Value,
    /// Base first.
    layers: Vec<LayerSource>,
    _pins: Pins,
}

impl ImageStore {
    /// Where a layer's archive can be written to.
    ///
    /// # Errors
    /// The store's disk fails.
    pub(crate) fn spool_layer(&self) -> Result<LayerSpool, CommitError> {
        let staging = self.staging()?;
        let path = staging.path().join("archive");
        let failed = |source| LayerError::Write { path: path.clone(), source };
        let file = BufWriter::with_capacity(256 << 10, File::create_new(&path).map_err(failed)?);
        let space = SpaceWatch::new(&path);
        Ok(LayerSpool { staging, path, file, hash: Sha256::new(), bytes: 0, space })
    }

    /// Makes an image of the parent and a layer on top of it, and gives it its name.
    ///
    /// # Errors
    /// There is no such parent, or nothing can be put on top of it; the archive is none; or the store fails. The store is
    /// then as it was.
    pub(crate) fn commit(&self, layer: LayerSpool, spec: &CommitSpec) -> Result<ImageId, CommitError> {
        let parent = self.parent(&spec.parent)?;
        let committed = self.commit_onto(parent, layer, spec);
        // The commit's own error is the one to tell.
        if committed.is_err()
            && let Err(error) = self.collect_garbage()
        {
            tracing::warn!(%error, "image store: cannot clear up after a failed commit");
        }
        committed
    }

    fn commit_onto(
        &self,
        parent: Parent,
        layer: LayerSpool,
        spec: &CommitSpec,
    ) -> Result<ImageId, CommitError> {
        let Parent { configuration, mut layers, _pins } = parent;
        let layer = layer.finish()?;
        let diff_id = layer.diff_id;
        let is_empty = diff_id == Digest::of(&EMPTY_ARCHIVE);
        let mut pins = self.pin([diff_id]);
        if !is_empty {
            let source = layer.compress_and_take_in()?;
            pins = self.pin([source.source.blob, diff_id]);
            self.place_layer(&source.source, layer.staging.path(), source.content_bytes)?;
            layers.push(source.source);
        }
        let config = child(&configuration, spec, (!is_empty).then_some(diff_id), Timestamp::now());
        let platform = serde_json::from_value(configuration).unwrap_or_else(|_unknown| Platform::host());
        let image = ArrivingImage::made(config.to_string().into_bytes(), layers, platform);
        let names: Vec<Reference> = spec.name.iter().cloned().collect();
        self.publish_image(&image, &[], &names)?;
        drop(pins);
        Ok(image.id)
    }

    /// Its layers stay while the child is made.
    fn parent(&self, id: &ImageId) -> Result<Parent, CommitError> {
        let layers = self.shared.database.with(|tx| Catalog(tx).layers_of(id))?;
        let diff_ids = layers.ok_or(CommitError::NoSuchImage(*id))?;
        if diff_ids.len() >= MAX_LAYERS {
            return Err(CommitError::TooManyLayers(*id));
        }
        let blobs = self.blobs_of(id)?;
        let pins = self.pin(blobs.iter().flat_map(|blob| [blob.digest, blob.diff_id]));
        // Only what is pinned is sure to be there.
        let configuration = self.config(id)?.ok_or(CommitError::NoSuchImage(*id))?;
        let unreadable = |problem: serde_json::Error| StoreError::Record {
            id: id.to_string(),
            problem: problem.to_string(),
        };
        let configuration = serde_json::from_slice(&configuration).map_err(unreadable)?;
        if blobs.len() != diff_ids.len() {
            return Err(CommitError::Incomplete(*id));
        }
        let layers = blobs.into_iter().map(|blob| LayerSource {
            blob: blob.digest,
            size_bytes: blob.size_bytes,
            diff_id: blob.diff_id,
        });
        Ok(Parent { configuration, layers: layers.collect(), _pins: pins })
    }
}

impl LayerSpool {
    /// Takes more of the archive.
    ///
    /// # Errors
    /// The disk fails or is full.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), CommitError> {
        self.space.take(self.file.get_ref(), bytes.len() as u64)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| LayerError::Write { path: self.path.clone(), source })?;
        Ok(())
    }

    fn finish(mut self) -> Result<SpooledLayer, CommitError> {
        let flushed = self.file.flush();
        flushed.map_err(|source| LayerError::Write { path: self.path.clone(), source })?;
        let diff_id = Digest::from_hash(self.hash);
        Ok(SpooledLayer { staging: self.staging, path: self.path, diff_id })
    }
}

/// A layer's archive that has come to its end.
struct SpooledLayer {
    staging: TempDir,
    path: PathBuf,
    diff_id: Digest,
}

/// A layer that was taken in and is not visible yet.
struct StagedCommit {
    source: LayerSource,
    content_bytes: u64,
}

impl SpooledLayer {
    /// Two threads read the archive: one makes the blob that travels, the other what disks are made of.
    fn compress_and_take_in(&self) -> Result<StagedCommit, LayerError> {
        let directory = self.staging.path().join(LAYER);
        fs::create_dir(&directory).map_err(|source| self.failed(source))?;
        let blob_path = self.staging.path().join(BLOB);
        let (blob, taken) = std::thread::scope(|scope| {
            let compressing = scope.spawn(|| self.compress(&blob_path));
            let intake = Intake { blob: None, diff_id: self.diff_id, directory: &directory };
            let taken = File::open(&self.path)
                .map_err(|source| self.failed(source))
                .and_then(|archive| intake.run(archive, &|_| ()));
            let blob = compressing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (blob, taken)
        });
        let content_bytes = taken?.content_bytes;
        let (digest, size_bytes) = blob?;
        let source = LayerSource { blob: digest, size_bytes, diff_id: self.diff_id };
        Ok(StagedCommit { source, content_bytes })
    }

    fn compress(&self, path: &Path) -> Result<(Digest, u64), LayerError> {
        let failed = |source| LayerError::Write { path: path.to_owned(), source };
        let archive = File::open(&self.path).map_err(|source| self.failed(source))?;
        let file = File::create_new(path).map_err(failed)?;
        let mut blob = HashedFile { file, hash: Sha256::new(), bytes: 0, space: SpaceWatch::new(path) };
        gzip(archive, BufWriter::with_capacity(256 << 10, &mut blob))
            .map_err(|error| error.downcast::<LayerError>().unwrap_or_else(failed))?;
        blob.file.sync_all().map_err(failed)?;
        Ok((Digest::from_hash(blob.hash), blob.bytes))
    }

    fn failed(&self, source: io::Error) -> LayerError {
        LayerError::Write { path: self.path.clone(), source }
    }
}

/// A file whose digest is known when it is written.
struct HashedFile {
    file: File,
    hash: Sha256,
    bytes: u64,
    space: SpaceWatch,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.space.take(&self.file, bytes.len() as u64).map_err(io::Error::other)?;
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The configuration of an image that is its parent's with one layer more; `None` if that has nothing in it.
fn child(parent: &Value, spec: &CommitSpec, layer: Option<Digest>, now: Timestamp) -> Value {
    let mut child = json!({
        "config": spec.config.document(),
        "created": now.to_string(),
    });
    for kept in ["architecture", "os", "variant", "os.version", "os.features"] {
        if let Some(value) = parent.get(kept).filter(|value| !value.is_null()) {
            child[kept] = value.clone();
        }
    }
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut diff_ids = list(parent.pointer("/rootfs/diff_ids"));
    diff_ids.extend(layer.map(|diff_id| json!(diff_id)));
    child["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    let mut history = list(parent.get("history"));
    let mut step = json!({ "created": now.to_string() });
    let texts = [("created_by", &spec.created_by), ("author", &spec.author), ("comment", &spec.comment)];
    for (name, text) in texts.into_iter().filter(|(_name, text)| !text.is_empty()) {
        step[name] = json!(text);
    }
    if layer.is_none() {
        step["empty_layer"] = json!(true);
    }
    history.push(step);
    child["history"] = json!(history);
    if !spec.author.is_empty() {
        child["author"] = json!(spec.author);
    }
    child
}
