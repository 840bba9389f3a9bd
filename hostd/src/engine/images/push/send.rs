//! Blobs on their way to a registry: layers side by side, each asked for before it is sent.

use std::collections::HashMap;
use std::io::{self, Cursor, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::plan::Plan;
use super::turns::Turns;
use super::{LayerState, PushStep, tell};
use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::image::{Digest, Reference, Repository, StoredBlob};
use crate::registry::{RegistryErrorKind, RemoteRepository};

/// Repositories that a layer is tried to be mounted from; each try is a request.
const MAX_MOUNT_SOURCES: usize = 4;
/// Between two positions of one bar.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Repositories of the registry that are known to have a layer, by its diff id.
type Sources = HashMap<Digest, Vec<Repository>>;

/// One push's way to its registry.
pub(super) struct Sender<'a> {
    pub(super) remote: &'a RemoteRepository,
    pub(super) repository: &'a Repository,
    pub(super) turns: &'a Turns,
    pub(super) sources: Sources,
    /// Blobs under way at a time.
    pub(super) parallel: usize,
    pub(super) steps: &'a mpsc::Sender<PushStep>,
}

impl Sender<'_> {
    /// Everything that the documents refer to. The first failure ends it.
    pub(super) async fn send(&self, plan: &Plan) -> Result<(), EngineError> {
        for layer in &plan.layers {
            self.tell(layer, LayerState::Preparing).await?;
        }
        for layer in plan.layers.iter().skip(self.parallel) {
            self.tell(layer, LayerState::Waiting).await?;
        }
        let layers = plan.layers.iter().map(|layer| self.send_layer(layer).boxed());
        self.side_by_side(layers.collect()).await?;
        let configs = plan.configs.iter().map(|(digest, content)| self.send_config(*digest, content).boxed());
        self.side_by_side(configs.collect()).await
    }

    async fn side_by_side(
        &self,
        sends: Vec<BoxFuture<'_, Result<(), EngineError>>>,
    ) -> Result<(), EngineError> {
        stream::iter(sends).buffer_unordered(self.parallel).try_collect().await
    }

    async fn send_layer(&self, layer: &StoredBlob) -> Result<(), EngineError> {
        let _turn = self.turns.take(self.repository, layer.digest).await;
        if self.remote.has_blob(&layer.digest).await?.is_some() {
            return self.tell(layer, LayerState::Exists).await;
        }
        if let Some(source) = self.mount(layer).await {
            return self.tell(layer, LayerState::MountedFrom(source)).await;
        }
        let meter = Meter::default();
        let progress = |sent_bytes| {
            if meter.is_due(sent_bytes >= layer.size_bytes) {
                let state = LayerState::Pushing { sent_bytes, total_bytes: layer.size_bytes };
                // A slow listener misses positions, of which the next says all.
                drop(self.steps.try_send(PushStep::Layer { diff_id: layer.diff_id, state }));
            }
        };
        let open = |offset_bytes| open_at(&layer.path, offset_bytes);
        self.remote.upload_blob(layer.digest, layer.size_bytes, open, progress).await?;
        self.tell(layer, LayerState::Pushed).await
    }

    async fn send_config(&self, digest: Digest, content: &Bytes) -> Result<(), EngineError> {
        let _turn = self.turns.take(self.repository, digest).await;
        if self.remote.has_blob(&digest).await?.is_some() {
            return Ok(());
        }
        let open = |offset_bytes| {
            let offset = usize::try_from(offset_bytes).ok().filter(|offset| *offset <= content.len());
            offset.map(|offset| Cursor::new(content.slice(offset..))).ok_or_else(past_the_end)
        };
        Ok(self.remote.upload_blob(digest, content.len() as u64, open, |_sent_bytes| {}).await?)
    }

    /// A mount that fails is none: what is wrong with the registry shows when the layer is uploaded.
    async fn mount(&self, layer: &StoredBlob) -> Option<Repository> {
        for source in self.sources.get(&layer.diff_id).into_iter().flatten() {
            match self.remote.mount_blob(&layer.digest, source).await {
                Ok(true) => return Some(source.clone()),
                Ok(false) => {}
                Err(error) if error.kind == RegistryErrorKind::Unreachable => return None,
                Err(error) => {
                    let (layer, source) = (layer.digest, source.canonical());
                    tracing::debug!(%layer, source, %error, "the layer cannot be mounted");
                }
            }
        }
        None
    }

    async fn tell(&self, layer: &StoredBlob, state: LayerState) -> Result<(), EngineError> {
        tell(self.steps, PushStep::Layer { diff_id: layer.diff_id, state }).await
    }
}

impl Engine {
    /// Where at the same registry the plan's layers may be already: images with them are known by digests there. The
    /// image's own repositories come first.
    pub(super) async fn mount_sources(&self, to: &Repository, plan: &Plan) -> Result<Sources, EngineError> {
        let mut images = self.with_images(|images| Ok(images.list()?)).await?;
        images.sort_by_key(|image| image.id != plan.image.id);
        let mut sources: Sources = plan.layers.iter().map(|layer| (layer.diff_id, Vec::new())).collect();
        for image in &images {
            let names = image.repo_digests.iter().filter_map(|name| Reference::parse(name).ok());
            let near =
                names.map(|name| name.repository).filter(|near| near != to && near.domain() == to.domain());
            for repository in near {
                for layer in &image.layers {
                    let Some(known) = sources.get_mut(layer) else { continue };
                    if known.len() < MAX_MOUNT_SOURCES && !known.contains(&repository) {
                        known.push(repository.clone());
                    }
                }
            }
        }
        Ok(sources)
    }
}

fn open_at(path: &Path, offset_bytes: u64) -> io::Result<tokio::fs::File> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset_bytes))?;
    Ok(tokio::fs::File::from_std(file))
}

fn past_the_end() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the registry asks for bytes behind the end")
}

/// Says when a bar is to move.
#[derive(Default)]
struct Meter {
    last: Mutex<Option<Instant>>,
}

impl Meter {
    fn is_due(&self, is_end: bool) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = is_end || last.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
