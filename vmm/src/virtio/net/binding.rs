//! What interface a card is bound to: none, one from the start, or one that comes and goes while the guest runs.
//!
//! The control thread leaves a change here and wakes the card, which takes it up between two frames. A card that is bound
//! to nothing has no carrier, and what the guest sends all the same is dropped.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::statistics::NetworkStatistics;
use super::tap::{Tap, TapError};
use crate::config::CardRates;
use crate::control::NetworkCounters;

/// Why a card's binding stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindingError {
    #[error("the card is bound already, to {0}")]
    Bound(String),
    #[error("the card is bound to nothing")]
    NotBound,
    #[error(transparent)]
    Tap(#[from] TapError),
    #[error("the card cannot be told")]
    Wake(#[from] std::io::Error),
}

/// The control thread's hand on a card.
#[derive(Debug)]
pub(crate) struct CardHandle {
    binding: Arc<Binding>,
    wake_up: OwnedFd,
    statistics: Arc<NetworkStatistics>,
}

/// What the control thread and the card share.
#[derive(Debug, Default)]
pub(super) struct Binding(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The interface, as the control thread knows it.
    interface: Option<String>,
    /// What the card has not taken up yet.
    change: Option<Change>,
}

#[derive(Debug)]
pub(super) enum Change {
    Bind(Tap, CardRates),
    Unbind,
}

impl Binding {
    /// Of a card that begins with this interface.
    pub(super) fn to(interface: Option<String>) -> Self {
        Self(Mutex::new(State { interface, change: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the card: what it was bound to from the start is no more.
    pub(super) fn is_lost(&self) {
        self.state().interface = None;
    }

    /// For the card: what has changed since it last asked.
    pub(super) fn take_change(&self) -> Option<Change> {
        self.state().change.take()
    }
}

impl CardHandle {
    pub(super) fn new(binding: Arc<Binding>, wake_up: OwnedFd, statistics: Arc<NetworkStatistics>) -> Self {
        Self { binding, wake_up, statistics }
    }

    pub(crate) fn counters(&self) -> NetworkCounters {
        self.statistics.counters()
    }

    /// Binds the card to the interface of that name, or to what was handed over under it; at these rates from now on.
    ///
    /// # Errors
    /// The card is bound, or the interface cannot be used.
    pub(crate) fn bind(&self, name: &str, rates: CardRates) -> Result<(), BindingError> {
        let mut state = self.binding.state();
        if let Some(bound) = &state.interface {
            return Err(BindingError::Bound(bound.clone()));
        }
        state.change = Some(Change::Bind(Tap::open(name)?, rates));
        state.interface = Some(name.to_owned());
        drop(state);
        self.wake()
    }

    /// The card lets go of its interface a moment later.
    ///
    /// # Errors
    /// The card is bound to nothing.
    pub(crate) fn unbind(&self) -> Result<(), BindingError> {
        let mut state = self.binding.state();
        state.interface.take().ok_or(BindingError::NotBound)?;
        state.change = Some(Change::Unbind);
        drop(state);
        self.wake()
    }

    fn wake(&self) -> Result<(), BindingError> {
        rustix::io::write(&self.wake_up, &1u64.to_ne_bytes()).map_err(std::io::Error::from)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::LINK;
    use super::super::tests::{Bench, PLAIN, from_guest};
    use super::*;
    use crate::virtio::VirtioDevice;

    fn has_link(bench: &Bench) -> bool {
        let mut status = [0; 2];
        bench.device.read_config(LINK.start as u64, &mut status);
        status == [1, 0]
    }

    #[test]
    fn an_interface_goes_and_comes_while_the_guest_runs() {
        let Some(mut bench) = Bench::new(0) else { return };
        let handle = bench.device.handle().unwrap();
        let bind = |name| handle.bind(name, CardRates::default());
        assert!(has_link(&bench));
        assert!(matches!(bind("card"), Err(BindingError::Bound(name)) if name == "card"));

        handle.unbind().unwrap();
        assert!(bench.is_readable() && bench.host_event().unwrap().has_configuration());
        assert!(!has_link(&bench));
        assert!(matches!(handle.unbind(), Err(BindingError::NotBound)));
        bench.send(&PLAIN, &from_guest(1, 60)).unwrap();
        assert_eq!(bench.counters().dropped_to_network, 1);

        assert!(matches!(bind("missing"), Err(BindingError::Tap(_))), "and is not bound to it");
        // Nobody holds it any more, and the guest's next frame goes out.
        bind("card").unwrap();
        assert!(bench.host_event().unwrap().has_configuration() && has_link(&bench));
        bench.send(&PLAIN, &from_guest(2, 60)).unwrap();
        assert_eq!(bench.network.receive_from_guest(), from_guest(2, 60));
    }
}
