//! Pushing: what a name leads to goes to its registry, byte for byte as it came.
//!
//! ```text
//! plan       which documents, configurations and layers; pinned, so that no removal takes them away meanwhile
//! send       layers side by side: there already, mounted from another repository, or uploaded
//! documents  children of an index by their digests, the document itself under its tag
//! ```
//!
//! Nothing is changed here but that the image has one more name by digest. The push ends when nobody listens to its
//! steps any more.

mod plan;
mod send;
mod turns;

use tokio::sync::mpsc;

use self::plan::Plan;
use self::send::Sender;
pub(in crate::engine) use self::turns::Turns;
use crate::engine::Engine;
use crate::engine::error::{EngineError, ErrorKind};
use crate::image::manifest::{Descriptor, Platform, RawDocument};
use crate::image::{Digest, Reference, Repository, Selector};
use crate::registry::{Credentials, RemoteRepository};

/// What to push, and as whom.
#[derive(Clone, Debug)]
pub struct PushRequest {
    pub repository: Repository,
    /// Without one, every tag of the repository that is here.
    pub tag: Option<String>,
    /// Only the image for it, alone.
    pub platform: Option<Platform>,
    pub credentials: Credentials,
}

/// What happens during a push, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushStep {
    /// Everything is here: it begins.
    Begun { repository: Repository },
    /// Of the layer with this diff id.
    Layer { diff_id: Digest, state: LayerState },
    /// Not all that an index leads to is here: one image of it goes alone.
    InsteadOfIndex { index: Box<Descriptor>, manifest: Box<Descriptor> },
    /// The registry has it.
    Pushed { tag: String, digest: Digest, size_bytes: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerState {
    Preparing,
    Waiting,
    Exists,
    MountedFrom(Repository),
    Pushing { sent_bytes: u64, total_bytes: u64 },
    Pushed,
}

impl Engine {
    /// Pushes, and tells of each step; ends early when the other end of `steps` is gone.
    ///
    /// # Errors
    /// No such image, one of which something is missing here, or the registry's refusal.
    pub async fn push_image(
        &self,
        request: PushRequest,
        steps: mpsc::Sender<PushStep>,
    ) -> Result<(), EngineError> {
        let listener = steps.clone();
        tokio::select! {
            pushed = self.push(request, &steps) => pushed,
            () = listener.closed() => {
                Err(EngineError::new(ErrorKind::Internal, "the push ended: its client went away"))
            }
        }
    }

    /// Blobs that are being sent.
    #[cfg(test)]
    pub(crate) fn pushes_under_way(&self) -> usize {
        self.shared.pushes.len()
    }

    async fn push(&self, request: PushRequest, steps: &mpsc::Sender<PushStep>) -> Result<(), EngineError> {
        let PushRequest { repository, tag, platform, credentials } = request;
        let tags = match tag {
            Some(tag) => vec![tag],
            None => self.tags_of(&repository).await?,
        };
        let mut plans = Vec::new();
        for tag in tags {
            let reference =
                Reference { repository: repository.clone(), selector: Selector::Tag(tag.clone()) };
            let platform = platform.clone();
            let planning = self.with_images(move |images| Plan::make(&images, &reference, platform.as_ref()));
            plans.push((tag, planning.await?));
        }
        let remote = self.registries().repository(&repository, credentials);
        tell(steps, PushStep::Begun { repository: repository.clone() }).await?;
        for (tag, plan) in plans {
            self.push_one(&repository, &remote, tag, plan, steps).await?;
        }
        Ok(())
    }

    async fn push_one(
        &self,
        repository: &Repository,
        remote: &RemoteRepository,
        tag: String,
        plan: Plan,
        steps: &mpsc::Sender<PushStep>,
    ) -> Result<(), EngineError> {
        let sources = self.mount_sources(repository, &plan).await?;
        let parallel = self.registries().settings().max_concurrent_uploads.max(1);
        let sender = Sender { remote, repository, turns: &self.shared.pushes, sources, parallel, steps };
        sender.send(&plan).await?;
        for child in &plan.children {
            put(remote, &Selector::Manifest(child.digest), child).await?;
        }
        put(remote, &Selector::Tag(tag.clone()), &plan.document).await?;
        self.record_push(repository, &tag, &plan).await?;
        if let Some(index) = &plan.instead_of {
            let (index, manifest) = (Box::new(descriptor(index)), Box::new(descriptor(&plan.document)));
            tell(steps, PushStep::InsteadOfIndex { index, manifest }).await?;
        }
        let (digest, size_bytes) = (plan.document.digest, plan.document.content.len() as u64);
        tell(steps, PushStep::Pushed { tag, digest, size_bytes }).await
    }

    /// The repository's tags that are here, sorted.
    async fn tags_of(&self, repository: &Repository) -> Result<Vec<String>, EngineError> {
        let images = self.with_images(|images| Ok(images.list()?)).await?;
        let names =
            images.iter().flat_map(|image| &image.names).filter_map(|name| Reference::parse(name).ok());
        let tags =
            names.filter(|name| name.repository == *repository).filter_map(|name| match name.selector {
                Selector::Tag(tag) => Some(tag),
                Selector::Manifest(_) => None,
            });
        let mut tags: Vec<_> = tags.collect();
        tags.sort();
        if tags.is_empty() {
            let familiar = repository.familiar();
            let message = format!("An image does not exist locally with the tag: {familiar}");
            return Err(EngineError::not_found(message));
        }
        Ok(tags)
    }

    async fn record_push(&self, repository: &Repository, tag: &str, plan: &Plan) -> Result<(), EngineError> {
        let (id, at, pushed) = (plan.image.id, repository.clone(), plan.document.clone());
        self.with_images(move |images| Ok(images.record_push(&id, &at, &pushed)?)).await?;
        let name = repository.familiar();
        self.publish_image("push", format!("{name}:{tag}"), name.to_owned(), Some(&plan.image));
        Ok(())
    }
}

/// Stores a document, and makes sure that the registry calls it by the same digest.
async fn put(
    remote: &RemoteRepository,
    selector: &Selector,
    document: &RawDocument,
) -> Result<(), EngineError> {
    let stored =
        remote.put_manifest(selector, document.media_type.as_str(), document.content.clone()).await?;
    if stored == document.digest {
        return Ok(());
    }
    let sent = document.digest;
    let message = format!("the registry took manifest {sent} and calls it {stored}: it is not to be trusted");
    Err(EngineError::new(ErrorKind::Internal, message))
}

fn descriptor(document: &RawDocument) -> Descriptor {
    Descriptor::new(document.media_type.clone(), document.digest, document.content.len() as u64)
}

/// Waits for a slow listener; without one the push is over.
async fn tell(steps: &mpsc::Sender<PushStep>, step: PushStep) -> Result<(), EngineError> {
    let gone = |_| EngineError::new(ErrorKind::Internal, "the push ended: its client went away");
    steps.send(step).await.map_err(gone)
}
