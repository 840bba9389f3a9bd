//! Layers on their way: each is fetched and taken in once, however many pulls wait for it.
//!
//! A flight belongs to all who hold it. When the last one lets go it stops; when it fails, those who joined it begin one
//! of their own, because their registry or their credentials may be better.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::engine::error::chain;
use crate::image::{ArrivalError, ImageStore, IntakeProgress, LayerSource};
use crate::registry::{BlobReader, RegistryError, RemoteRepository};

/// How often a flight's position is told while its blob comes: slow lines move bars too, fast ones wake nobody in vain.
const POSITION_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is told how much of the blob is spent.
const UNPACKING_STEP_BYTES: u64 = 1 << 20;

/// Where a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FlightState {
    Begun,
    /// Others have their turn first.
    Waiting,
    Downloading {
        bytes: u64,
    },
    /// All of the blob is here; so much of it is spent.
    Unpacking {
        bytes: u64,
    },
    Complete,
    Failed(FlightFailure),
}

/// Why a layer did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FlightFailure {
    Registry(RegistryError),
    /// It is not what its image says. A sentence that names it.
    Refused(String),
    /// Our own disk or database.
    Store(String),
}

/// One layer on its way.
#[derive(Debug)]
pub(super) struct Flight {
    state: watch::Receiver<FlightState>,
    _stop_at_last: DropGuard,
}

/// All layers that are on their way. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Flights {
    flying: Arc<Mutex<HashMap<LayerSource, Weak<Flight>>>>,
    turns: Arc<Semaphore>,
}

impl Flights {
    /// One more than are downloaded at a time is taken in: while the end of one is unpacked, the next begins.
    pub(in crate::engine) fn new(max_concurrent_downloads: usize) -> Self {
        let turns = Arc::new(Semaphore::new(max_concurrent_downloads.max(1) + 1));
        Self { flying: Arc::default(), turns }
    }

    /// The layer's flight, and whether it began with this call, with this `remote`.
    pub(super) fn join(
        &self,
        layer: &LayerSource,
        images: &ImageStore,
        remote: &RemoteRepository,
    ) -> (Arc<Flight>, bool) {
        let mut flying = self.flying();
        let known = flying.get(layer).and_then(Weak::upgrade);
        if let Some(flight) = known.filter(|flight| !flight.has_failed()) {
            return (flight, false);
        }
        let stop = CancellationToken::new();
        let (state, receiver) = watch::channel(FlightState::Begun);
        let flight = Arc::new(Flight { state: receiver, _stop_at_last: stop.clone().drop_guard() });
        let weak = Arc::downgrade(&flight);
        flying.insert(*layer, weak.clone());
        let (flights, pilot) =
            (self.clone(), Pilot { layer: *layer, images: images.clone(), remote: remote.clone(), stop });
        tokio::spawn(async move {
            if flights.turns.available_permits() == 0 {
                state.send_replace(FlightState::Waiting);
            }
            let end = pilot.fly(&flights.turns, &state).await;
            flights.land(&pilot.layer, &weak);
            state.send_replace(end);
        });
        (flight, true)
    }

    fn land(&self, layer: &LayerSource, flight: &Weak<Flight>) {
        let mut flying = self.flying();
        if flying.get(layer).is_some_and(|current| current.ptr_eq(flight)) {
            flying.remove(layer);
        }
    }

    fn flying(&self) -> MutexGuard<'_, HashMap<LayerSource, Weak<Flight>>> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    pub(super) fn watch(&self) -> watch::Receiver<FlightState> {
        self.state.clone()
    }

    fn has_failed(&self) -> bool {
        matches!(*self.state.borrow(), FlightState::Failed(_))
    }
}

/// Who brings one layer in.
struct Pilot {
    layer: LayerSource,
    images: ImageStore,
    remote: RemoteRepository,
    stop: CancellationToken,
}

impl Pilot {
    async fn fly(&self, turns: &Semaphore, state: &watch::Sender<FlightState>) -> FlightState {
        let turn = tokio::select! {
            turn = turns.acquire() => turn.expect("turns are never closed"),
            () = self.stop.cancelled() => return stopped(),
        };
        // The pulls that wait for it have their own; these last until the layer is in its place.
        let pins = self.images.pin([self.layer.blob, self.layer.diff_id]);
        let failure = Arc::default();
        let source = Source {
            blob: self.remote.blob(self.layer.blob, self.layer.size_bytes),
            rest: Bytes::new(),
            stop: self.stop.clone(),
            runtime: Handle::current(),
            state: state.clone(),
            bytes: 0,
            told_at: None,
            failure: Arc::clone(&failure),
        };
        let (images, layer, reports) = (self.images.clone(), self.layer, state.clone());
        let taking = tokio::task::spawn_blocking(move || {
            images.take_in_layer(&layer, source, &reporter(layer.size_bytes, &reports))
        });
        let taken = taking.await;
        drop((pins, turn));
        let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (taken, failure) {
            (Ok(Ok(())), _) => FlightState::Complete,
            (_, Some(failure)) => FlightState::Failed(FlightFailure::Registry(failure)),
            (Ok(Err(error)), None) => FlightState::Failed(error.into()),
            (Err(panicked), None) => FlightState::Failed(FlightFailure::Store(panicked.to_string())),
        }
    }
}

/// Nobody is there to be told.
fn stopped() -> FlightState {
    FlightState::Failed(FlightFailure::Store("nobody waits for it any more".to_owned()))
}

/// Tells of the blob's end, and of how much of it is spent. How much of it has come, its [`Source`] tells.
fn reporter(
    total_bytes: u64,
    state: &watch::Sender<FlightState>,
) -> impl Fn(IntakeProgress) + Sync + use<'_> {
    let told_bytes = AtomicU64::new(0);
    move |progress| match progress {
        IntakeProgress::Blob { bytes } if bytes == total_bytes => {
            FlightState::Unpacking { bytes: 0 }.tell(state);
        }
        IntakeProgress::Blob { .. } => {}
        IntakeProgress::Plain { blob_bytes: bytes, .. } => {
            let due = bytes >= told_bytes.load(Relaxed) + UNPACKING_STEP_BYTES;
            if due && told_bytes.fetch_max(bytes, Relaxed) < bytes {
                FlightState::Unpacking { bytes }.tell(state);
            }
        }
    }
}

impl FlightState {
    fn tell(self, told: &watch::Sender<Self>) {
        told.send_if_modified(|state| self.advance(state));
    }

    /// Takes the place of an earlier position. Unpacking begins while the blob still comes, and is not told before.
    fn advance(self, state: &mut Self) -> bool {
        let is_next = match (&*state, &self) {
            (Self::Begun | Self::Waiting | Self::Downloading { .. }, Self::Downloading { .. }) => true,
            (Self::Begun | Self::Waiting | Self::Downloading { .. }, Self::Unpacking { bytes }) => {
                *bytes == 0
            }
            (Self::Unpacking { bytes: told }, Self::Unpacking { bytes }) => bytes > told,
            _ => false,
        };
        if is_next {
            *state = self;
        }
        is_next
    }
}

/// A blob's bytes for a thread that blocks; ends early when nobody waits for the layer any more.
struct Source {
    blob: BlobReader,
    rest: Bytes,
    stop: CancellationToken,
    runtime: Handle,
    state: watch::Sender<FlightState>,
    bytes: u64,
    told_at: Option<Instant>,
    /// What the registry said, before decompression and tar wrap it.
    failure: Arc<Mutex<Option<RegistryError>>>,
}

impl Source {
    /// There is a new piece.
    fn tell(&mut self) {
        self.bytes += self.rest.len() as u64;
        if self.told_at.is_none_or(|told_at| told_at.elapsed() >= POSITION_INTERVAL) {
            self.told_at = Some(Instant::now());
            FlightState::Downloading { bytes: self.bytes }.tell(&self.state);
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            let (blob, stop) = (&mut self.blob, &self.stop);
            let next = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => None,
                    next = blob.next_chunk() => Some(next),
                }
            });
            match next {
                Some(Ok(Some(chunk))) => {
                    self.rest = chunk;
                    self.tell();
                }
                Some(Ok(None)) => return Ok(0),
                Some(Err(error)) => {
                    let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                    *failure = Some(error.clone());
                    return Err(error.into());
                }
                None => return Err(io::Error::other("nobody waits for it any more")),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

impl From<ArrivalError> for FlightFailure {
    fn from(error: ArrivalError) -> Self {
        if error.is_senders_fault() { Self::Refused(chain(&error)) } else { Self::Store(chain(&error)) }
    }
}
