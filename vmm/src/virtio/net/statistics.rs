//! What went over a card, for the control thread.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::control::NetworkCounters;

#[derive(Debug, Default)]
pub(crate) struct NetworkStatistics {
    pub(super) to_guest_frames: AtomicU64,
    pub(super) to_guest_bytes: AtomicU64,
    pub(super) dropped_to_guest: AtomicU64,
    pub(super) to_network_frames: AtomicU64,
    pub(super) to_network_bytes: AtomicU64,
    pub(super) dropped_to_network: AtomicU64,
}

impl NetworkStatistics {
    pub(crate) fn counters(&self) -> NetworkCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetworkCounters {
            to_guest_frames: load(&self.to_guest_frames),
            to_guest_bytes: load(&self.to_guest_bytes),
            dropped_to_guest: load(&self.dropped_to_guest),
            to_network_frames: load(&self.to_network_frames),
            to_network_bytes: load(&self.to_network_bytes),
            dropped_to_network: load(&self.dropped_to_network),
        }
    }
}
