//! Taking the layers of a load in, several at a time, into the staging area.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};

use super::load::{LoadProgress, Problem};
use crate::image::archive::SpooledFile;
use crate::image::compression::decompress;
use crate::image::digest::Digest;
use crate::image::disk::LayerDirectory;
use crate::image::layer::{self, LayerError};

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
    let total_bytes = missing.blob.size_bytes;
    let reported = ReportingReader {
        source: blob,
        id: diff_id,
        total_bytes,
        current_bytes: 0,
        reported_bytes: 0,
        reports,
    };
    let plain = decompress(reported).map_err(|error| failed(LayerError::Archive(error.into())))?;
    let ingested = layer::ingest(plain, &directory.path).map_err(failed)?;
    if ingested.diff_id != diff_id {
        return Err(Problem::DiffId { image: image.to_owned(), layer: diff_id, actual: ingested.diff_id });
    }
    // The blob stays too, for push and save; it becomes durable here, where layers are worked on side by side.
    let durable = File::open(&missing.blob.path).and_then(|blob| blob.sync_all());
    durable.and_then(|()| super::files::sync_directory(&directory.path)).map_err(written)?;
    Ok(StagedLayer { directory, content_bytes: ingested.content_bytes })
}

/// Says now and then how much was read.
struct ReportingReader<'a> {
    source: File,
    id: Digest,
    total_bytes: u64,
    current_bytes: u64,
    reported_bytes: u64,
    reports: &'a Sender<LoadProgress>,
}

impl Read for ReportingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.current_bytes += count as u64;
        let at_end = self.current_bytes == self.total_bytes;
        let due = self.current_bytes - self.reported_bytes >= PROGRESS_STEP_BYTES || at_end;
        if count > 0 && due {
            self.reported_bytes = self.current_bytes;
            let (id, current_bytes, total_bytes) = (self.id, self.current_bytes, self.total_bytes);
            // The receiver outlives the workers; should it not, nobody is left to tell.
            self.reports.send(LoadProgress::Layer { id, current_bytes, total_bytes }).ok();
        }
        Ok(count)
    }
}
