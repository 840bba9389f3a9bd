//! What a pull tells whoever watches it.

use tokio::sync::mpsc;

use crate::image::{Digest, Reference};

/// Steps that wait for a slow watcher; more, and the pull waits with them. Layers that are under way do not.
const WAITING_STEPS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullStep {
    /// The registry has an image of this name for the platform.
    Found(Reference),
    /// A layer, by its blob's digest.
    Layer {
        blob: Digest,
        step: LayerStep,
    },
    Warning(String),
    /// What the name stands for now: the digest of an index or a manifest.
    Resolved(Digest),
    /// The last one. `shown` is what was asked for; `updated` tells whether it leads elsewhere now.
    Finished {
        shown: String,
        updated: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerStep {
    /// It is here already.
    Present,
    /// It is not, and will be fetched.
    Wanted,
    /// Others are fetched before it.
    Waiting,
    Downloading {
        current_bytes: u64,
        total_bytes: u64,
    },
    /// All of it has come, and it is what it should be.
    Downloaded,
    /// So much of its blob is spent.
    Unpacking {
        current_bytes: u64,
        total_bytes: u64,
    },
    /// Verified and kept.
    Complete,
}

/// Where a pull's steps go.
#[derive(Clone, Debug)]
pub struct Steps(mpsc::Sender<PullStep>);

impl Steps {
    /// Both ends. Whoever no longer wants the pull drops its future, not only the receiver.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<PullStep>) {
        let (sender, receiver) = mpsc::channel(WAITING_STEPS);
        (Self(sender), receiver)
    }

    pub(super) async fn tell(&self, step: PullStep) {
        // Nobody has to watch.
        self.0.send(step).await.unwrap_or_default();
    }

    pub(super) async fn tell_layer(&self, blob: Digest, step: LayerStep) {
        self.tell(PullStep::Layer { blob, step }).await;
    }

    /// For bars, of which the next position says all: dropped if the watcher is slow.
    pub(super) fn offer_layer(&self, blob: Digest, step: LayerStep) {
        self.0.try_send(PullStep::Layer { blob, step }).unwrap_or_default();
    }
}
