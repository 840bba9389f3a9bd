//! What of a device a snapshot keeps beyond its queues, and how a device refuses to be saved or to go on.
//!
//! One variant for each kind, as plain data. Whoever restores reads a file that may be anybody's: a device compares
//! or checks every value before it takes it over.

use serde::{Deserialize, Serialize};

/// A device's own part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceState {
    /// The disk that is bound to the device of a restored machine must be like the old one.
    Block {
        capacity_bytes: u64,
        read_only: bool,
    },
    Console,
    Rng,
    /// Connections do not outlive the machine they were made by: the guest is told, see `vsock`. Until it has heard,
    /// new ones must have other names than those it remembers.
    Vsock {
        last_host_port: u32,
    },
    /// What was offered to the driver must be offered still; the size that is wanted is the new machine's.
    Balloon {
        features: u64,
        actual_pages: u32,
    },
    /// What was offered to the driver must be offered still; the address is the new machine's.
    NetworkCard {
        features: u64,
    },
}

/// Why a device cannot be saved, or not go on from a state.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum StateError {
    #[error("{0} cannot be part of a snapshot")]
    NotSavable(&'static str),
    #[error("it was another device: {saved:?} instead of {own:?}")]
    Differs { saved: DeviceState, own: DeviceState },
}

/// For devices whose state must be what it was.
///
/// # Errors
/// It is not.
pub(crate) fn expect_same(saved: &DeviceState, own: DeviceState) -> Result<(), StateError> {
    if *saved == own { Ok(()) } else { Err(StateError::Differs { saved: saved.clone(), own }) }
}
