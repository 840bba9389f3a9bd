//! Pulling: a name is resolved at its registry, its layers arrive side by side, the image appears whole or not at all.
//!
//! ```text
//! resolve   name ──▶ index ──▶ manifest for the platform ──▶ configuration
//! flight    each missing layer once, whoever wants it: network ──▶ blob, digest, diff id, data, index
//! step      what is told of it
//! ```
//!
//! A pull whose future is dropped stops; layers that another pull waits for as well go on.

mod flight;
mod resolve;
mod step;

use std::collections::HashSet;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::timeout;

pub use step::{LayerStep, PullStep, Steps};

pub(in crate::engine) use flight::Flights;

use super::distribution::read_config;
use crate::engine::Engine;
use crate::engine::error::{EngineError, ErrorKind, chain};
use crate::image::manifest::Platform;
use crate::image::{
    ArrivalError, ArrivingImage, ImageId, LayerSource, Pins, Presence, Reference, Repository, Selector,
};
use crate::registry::{Credentials, RegistryErrorKind, RemoteRepository};
use flight::{Flight, FlightFailure, FlightState};
use resolve::Resolved;

/// What to pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullTarget {
    One(Reference),
    AllTags(Repository),
}

/// A pull as it was asked for.
#[derive(Clone, Debug)]
pub struct PullRequest {
    pub target: PullTarget,
    /// Of an image for several; this host's if nobody says.
    pub platform: Option<Platform>,
    pub credentials: Credentials,
}

/// More tags than any repository of the field has are not pulled all.
const MAX_TAGS: usize = 10_000;
/// How often a layer's position is told.
const POSITION_INTERVAL: Duration = Duration::from_millis(100);

impl Engine {
    /// Pulls, and tells `steps` about it.
    ///
    /// # Errors
    /// The registry's refusal, an answer that is no image for the platform, or one that does not keep what its digests
    /// promise. What a refused image has brought is taken away again; what an interrupted pull has completed is kept
    /// until the next clearing up.
    pub async fn pull(&self, request: PullRequest, steps: Steps) -> Result<(), EngineError> {
        let (repository, shown) = match &request.target {
            PullTarget::One(reference) => (&reference.repository, reference.familiar()),
            PullTarget::AllTags(repository) => (repository, repository.familiar().to_owned()),
        };
        let remote = self.registries().repository(repository, request.credentials.clone());
        let references = match &request.target {
            PullTarget::One(reference) => vec![reference.clone()],
            PullTarget::AllTags(repository) => all_tags(&remote, repository).await?,
        };
        let mut updated = false;
        for reference in references {
            let pull = Pull {
                engine: self,
                remote: &remote,
                reference: &reference,
                platform: request.platform.as_ref(),
                steps: &steps,
            };
            updated |= pull.run().await?;
        }
        steps.tell(PullStep::Finished { shown, updated }).await;
        Ok(())
    }
}

async fn all_tags(remote: &RemoteRepository, repository: &Repository) -> Result<Vec<Reference>, EngineError> {
    let tags = remote.tags().await?;
    if tags.len() > MAX_TAGS {
        let message = format!("{}: more than {MAX_TAGS} tags: pull them by name", repository.familiar());
        return Err(EngineError::new(ErrorKind::Internal, message));
    }
    let reference = |tag| Reference { repository: repository.clone(), selector: Selector::Tag(tag) };
    Ok(tags.into_iter().map(reference).collect())
}

/// The pull of one reference.
struct Pull<'a> {
    engine: &'a Engine,
    remote: &'a RemoteRepository,
    reference: &'a Reference,
    platform: Option<&'a Platform>,
    steps: &'a Steps,
}

/// Why an image that was found did not arrive.
struct Failure {
    error: EngineError,
    /// What came is not to be kept for another try.
    is_refused: bool,
}

impl Pull<'_> {
    /// Returns whether the name leads elsewhere now than before.
    async fn run(&self) -> Result<bool, EngineError> {
        let wanted = self.platform.cloned().unwrap_or_else(Platform::host);
        let resolved = self.resolve(&wanted).await?;
        self.steps.tell(PullStep::Found(self.reference.clone())).await;
        let image = Arc::new(self.describe(&resolved).await?);
        let documents = resolved.documents.iter().map(|raw| raw.digest);
        let pins = Arc::new(self.engine.images().pin(image.digests().chain(documents)));
        let updated = match self.arrive(&image).await {
            Ok(()) => self.publish(&image, &resolved, &pins).await,
            Err(failure) => Err(failure),
        };
        drop(pins);
        match updated {
            Ok(updated) => {
                self.conclude(&image, &resolved).await?;
                Ok(updated)
            }
            Err(failure) => Err(self.give_up(failure).await),
        }
    }

    /// What its configuration says of the image; that is fetched unless it is here.
    async fn describe(&self, resolved: &Resolved) -> Result<ArrivingImage, EngineError> {
        let id = ImageId(resolved.manifest.config.digest);
        let stored = self.engine.with_images(move |images| Ok(images.config(&id)?)).await?;
        let config = match stored {
            Some(config) => config,
            None => read_config(self.remote, &resolved.manifest.config).await.map_err(|error| {
                let message = format!("image {}: {}", self.reference.familiar(), error.message);
                EngineError { message, ..error }
            })?,
        };
        ArrivingImage::new(&resolved.manifest, config.into()).map_err(|error| self.refused(&chain(&error)))
    }

    /// Completes when every layer is here. They must be pinned.
    async fn arrive(&self, image: &ArrivingImage) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for layer in image.layers.iter().filter(|layer| seen.insert(**layer)) {
            let here = self.is_here(*layer).await?;
            let step = if here { LayerStep::Present } else { LayerStep::Wanted };
            self.steps.tell_layer(layer.blob, step).await;
            missing.extend((!here).then_some(*layer));
        }
        try_join_all(missing.into_iter().map(|layer| self.fetch_layer(layer))).await?;
        Ok(())
    }

    /// Whether the layer is here. One whose blob only is here is made of it.
    async fn is_here(&self, layer: LayerSource) -> Result<bool, Failure> {
        self.with_arrivals(move |images| match images.presence(&layer)? {
            Presence::Whole => Ok(true),
            Presence::Blob => images.unpack_again(&layer).map(|()| true),
            Presence::Nothing => Ok(false),
        })
        .await
    }

    /// Waits for the layer, whoever brings it.
    async fn fetch_layer(&self, layer: LayerSource) -> Result<(), Failure> {
        loop {
            let shared = &self.engine.shared;
            let (flight, is_ours) = shared.flights.join(&layer, &shared.images, self.remote);
            match self.follow(&flight, &layer).await {
                FlightState::Failed(failure) if is_ours => return Err(self.failure(failure)),
                // Somebody else's registry failed: ours may not.
                FlightState::Failed(_) => {}
                _ => return Ok(()),
            }
        }
    }

    /// Tells of a flight until it has ended; returns how. Bars move at intervals, all else is told at once.
    async fn follow(&self, flight: &Flight, layer: &LayerSource) -> FlightState {
        let mut states = flight.watch();
        let mut told = None;
        loop {
            let state = states.borrow_and_update().clone();
            self.tell(layer, told.as_ref(), &state).await;
            if matches!(state, FlightState::Complete | FlightState::Failed(_)) {
                return state;
            }
            let phase = discriminant(&state);
            told = Some(state);
            let next = states.wait_for(|state| discriminant(state) != phase);
            if let Ok(Err(_)) = timeout(POSITION_INTERVAL, next).await {
                return FlightState::Failed(FlightFailure::Store("its task has ended".to_owned()));
            }
        }
    }

    /// Tells what is new. A watcher may have missed states in between, a client expects each.
    async fn tell(&self, layer: &LayerSource, told: Option<&FlightState>, state: &FlightState) {
        let (blob, total_bytes) = (layer.blob, layer.size_bytes);
        if told == Some(state) {
            return;
        }
        let was_here = matches!(told, Some(FlightState::Unpacking { .. }));
        let is_here = matches!(state, FlightState::Unpacking { .. } | FlightState::Complete);
        if is_here && !was_here {
            self.steps.tell_layer(blob, LayerStep::Downloaded).await;
        }
        match *state {
            FlightState::Waiting => self.steps.tell_layer(blob, LayerStep::Waiting).await,
            FlightState::Downloading { bytes } => {
                let step = LayerStep::Downloading { current_bytes: bytes, total_bytes };
                self.steps.offer_layer(blob, step);
            }
            FlightState::Unpacking { bytes } => {
                let step = LayerStep::Unpacking { current_bytes: bytes, total_bytes };
                self.steps.offer_layer(blob, step);
            }
            FlightState::Complete => {
                let step = LayerStep::Unpacking { current_bytes: total_bytes, total_bytes };
                self.steps.offer_layer(blob, step);
                self.steps.tell_layer(blob, LayerStep::Complete).await;
            }
            FlightState::Begun | FlightState::Failed(_) => {}
        }
    }

    async fn publish(
        &self,
        image: &Arc<ArrivingImage>,
        resolved: &Resolved,
        pins: &Arc<Pins>,
    ) -> Result<bool, Failure> {
        let selector = Selector::Manifest(resolved.target());
        let by_digest = Reference { selector, ..self.reference.clone() };
        let mut names = vec![self.reference.clone()];
        names.extend((by_digest != *self.reference).then_some(by_digest));
        let (image, documents) = (Arc::clone(image), resolved.documents.clone());
        // Should nobody wait any more, it is published all the same: then it needs its pins all the same.
        let pins = Arc::clone(pins);
        self.with_arrivals(move |images| {
            let updated = images.publish_image(&image, &documents, &names);
            drop(pins);
            updated
        })
        .await
    }

    /// What is told and done once the image is here.
    async fn conclude(&self, image: &ArrivingImage, resolved: &Resolved) -> Result<(), EngineError> {
        if let Some(wanted) = self.platform
            && wanted.distance_to(&image.platform).is_none()
        {
            let (name, found) = (self.reference.familiar(), image.platform.normalized());
            let warning = format!(
                "image with reference {name} was found but its platform ({found}) does not match the specified \
                 platform ({wanted})"
            );
            self.steps.tell(PullStep::Warning(warning)).await;
        }
        self.steps.tell(PullStep::Resolved(resolved.target())).await;
        let id = image.id.to_string();
        let image = self.engine.with_images(move |images| Ok(images.resolve(&id).ok())).await?;
        let (name, repository) = (self.reference.familiar(), self.reference.repository.familiar());
        self.engine.publish_image("pull", name, repository.to_owned(), image.as_ref());
        Ok(())
    }

    /// Leaves the store as it was if the image was refused.
    async fn give_up(&self, failure: Failure) -> EngineError {
        if failure.is_refused {
            let swept = self.engine.with_images(|images| Ok(images.collect_garbage()?)).await;
            if let Err(error) = swept {
                tracing::warn!(%error, "image store: cannot clear up after a failed pull");
            }
        }
        failure.error
    }

    async fn with_arrivals<T: Send + 'static>(
        &self,
        work: impl FnOnce(crate::image::ImageStore) -> Result<T, ArrivalError> + Send + 'static,
    ) -> Result<T, Failure> {
        let images = self.engine.images().clone();
        match tokio::task::spawn_blocking(move || work(images)).await {
            Ok(worked) => worked.map_err(|error| self.failure(error.into())),
            Err(panicked) => Err(self.failure(FlightFailure::Store(panicked.to_string()))),
        }
    }

    fn failure(&self, failure: FlightFailure) -> Failure {
        match failure {
            FlightFailure::Registry(error) => {
                let is_refused = error.kind == RegistryErrorKind::InvalidAnswer;
                Failure { error: error.into(), is_refused }
            }
            FlightFailure::Refused(problem) => Failure { error: self.refused(&problem), is_refused: true },
            FlightFailure::Store(problem) => Failure { error: self.refused(&problem), is_refused: false },
        }
    }
}
