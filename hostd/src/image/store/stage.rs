//! Taking the layers of a load in, several at a time, into the staging area.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};

use super::load::{LoadProgress, Problem};
use crate::image::archive::SpooledFile;
use crate::image::digest::Digest;
use crate::image::disk::LayerDirectory;
use crate::image::layer::{Intake, IntakeProgress, LayerError};

/// Layers are taken in side by side: inflating is the slow part, and it is serial within a layer.
const MAX_WORKERS: usize = 4;
/// How often a layer's progress is reported, in bytes of its blob.
const PROGRESS_STEP_BYTES: u64 = 512 << 10;

/// A layer to take in, and the image it is for (in messages).
pub(super) struct MissingLayer<'a> {
    pub(super) diff_id: Digest,
    pub(super) blob: &'a SpooledFile,
    pub(super) image: &'a str,
}

/// A layer that is complete and durable, but not visible yet.
pub(super) struct StagedLayer {
    pub(super) directory: LayerDirectory,
    pub(super) content_bytes: u64,
}

/// Takes all of them in, or fails with the first that cannot be.
pub(super) fn stage(
    missing: &[MissingLayer<'_>],
    staging: &Path,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<HashMap<Digest, StagedLayer>, Problem> {
    let queue = Mutex::new(missing.iter());
    let (reports, received) = mpsc::channel();
    let workers =
        std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS).min(missing.len());
    std::thread::scope(|scope| {
        let work = |reports: Sender<LoadProgress>| {
            let mut staged = Vec::new();
            while let Some(layer) = next(&queue) {
                match stage_one(layer, staging, &reports) {
                    Ok(layer) => staged.push(layer),
                    Err(problem) => {
                        // Nobody needs what is still waiting.
                        while next(&queue).is_some() {}
                        return Err(problem);
                    }
                }
            }
            Ok(staged)
        };
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let reports = reports.clone();
                scope.spawn(move || work(reports))
            })
            .collect();
        drop(reports);
        received.iter().for_each(progress);
        let mut staged = HashMap::new();
        for worker in workers {
            let layers = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            staged.extend(layers.into_iter().map(|layer| (layer.directory.diff_id, layer)));
        }
        Ok(staged)
    })
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}

fn stage_one(
    missing: &MissingLayer<'_>,
    staging: &Path,
    reports: &Sender<LoadProgress>,
) -> Result<StagedLayer, Problem> {
    let (diff_id, image) = (missing.diff_id, missing.image);
    let failed = |source| Problem::Layer { image: image.to_owned(), layer: diff_id, source };
    let directory = LayerDirectory { diff_id, path: staging.join(format!("layer-{}", diff_id.hex())) };
    let written = |source| failed(LayerError::Write { path: directory.path.clone(), source });
    fs::create_dir(&directory.path).map_err(written)?;
    let blob = File::open(&missing.blob.path).map_err(written)?;
    let (total_bytes, reported_bytes) = (missing.blob.size_bytes, AtomicU64::new(0));
    let report = |progress| {
        let IntakeProgress::Blob { bytes } = progress else { return };
        let due = bytes >= reported_bytes.load(Relaxed) + PROGRESS_STEP_BYTES || bytes == total_bytes;
        if due && reported_bytes.fetch_max(bytes, Relaxed) < bytes {
            // The receiver outlives the workers; should it not, nobody is left to tell.
            reports.send(LoadProgress::Layer { id: diff_id, current_bytes: bytes, total_bytes }).ok();
        }
    };
    let intake = Intake { blob: None, diff_id, directory: &directory.path };
    let taken = intake.run(blob, &report).map_err(failed)?;
    // The blob stays too, for push and save; it becomes durable here, where layers are worked on side by side.
    File::open(&missing.blob.path).and_then(|blob| blob.sync_all()).map_err(written)?;
    Ok(StagedLayer { directory, content_bytes: taken.content_bytes })
}
