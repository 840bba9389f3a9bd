//! A running machine's network cards, bound to interfaces of the host and let go of them.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use berth_vmm::TapError;
use berth_vmm::config::CardRates;
use berth_vmm::control::{Reply, Request};
use tokio::time::{Instant, sleep};

use super::{Machine, MachineError};

/// A card lets go of its interface when its thread comes to it.
const LET_GO_DEADLINE: Duration = Duration::from_secs(10);
const LET_GO_PAUSE: Duration = Duration::from_millis(2);

impl Machine {
    /// How many it has, bound or not; the machine's own word.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn card_count(&self) -> Result<usize, MachineError> {
        match self.request(Request::Counters).await? {
            Reply::Counters(counters) => Ok(counters.network_cards.len()),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Binds a card to an interface that exists, at these rates. A card that is bound already lets go of its interface first: it is one
    /// whose binding nobody knows of any more.
    ///
    /// # Errors
    /// There is no such card or interface, or the machine does not answer.
    pub(crate) async fn bind_card(
        &self,
        card: usize,
        tap: &str,
        rates: CardRates,
    ) -> Result<(), MachineError> {
        if self.is_jailed() {
            let opened = berth_vmm::open_tap(tap).map_err(|error| self.refused(&error))?;
            self.hand_over(&[(Path::new(tap), opened.as_fd())]).await?;
        }
        let bind = || Request::BindCard { card, tap: tap.to_owned(), rates };
        if let Err(MachineError::Refused { .. }) = self.request(bind()).await {
            let _bound_to_nothing: Result<Reply, MachineError> =
                self.request(Request::UnbindCard { card }).await;
            self.request(bind()).await?;
        }
        Ok(())
    }

    /// A card lets go of its interface. Returns when it has: what is removed under a card that uses it breaks the card.
    ///
    /// # Errors
    /// There is no such card, it was bound to nothing, or the machine does not answer.
    pub(crate) async fn unbind_card(&self, card: usize, tap: &str) -> Result<(), MachineError> {
        self.request(Request::UnbindCard { card }).await?;
        let begun = Instant::now();
        while let Err(TapError::Busy(_)) = berth_vmm::open_tap(tap) {
            if begun.elapsed() > LET_GO_DEADLINE {
                let waited_for = "a network card to let go of its interface";
                return Err(super::deadline(&self.id, waited_for, LET_GO_DEADLINE, &self.directory));
            }
            sleep(LET_GO_PAUSE).await;
        }
        Ok(())
    }

    fn refused(&self, error: &dyn std::error::Error) -> MachineError {
        MachineError::Refused { id: self.id.clone(), message: error.to_string() }
    }

    fn nonsense(&self, reply: &Reply) -> MachineError {
        MachineError::Refused { id: self.id.clone(), message: format!("it answers with {reply:?}") }
    }
}
