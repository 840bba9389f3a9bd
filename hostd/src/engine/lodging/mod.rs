//! Containers that run in another container's machine, because they share a namespace with it.
//!
//! The machine is its owner's, whose run it begins and ends with. A lodger has a room on the machine's spare disk for as
//! long as it runs, and goes when the owner does: a namespace that nobody else is in any more has no other place to be.

mod company;
mod enter;
mod home;
mod leave;

pub(super) use company::{Company, expects_shares};
pub(super) use enter::Launched;
pub(super) use home::{Home, Lodging};
pub(super) use leave::{Leaving, Remains, sweep};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::identity::ContainerId;

/// How the names of a lodger's shares begin, in one run. None of an earlier run has the same: what the guest still knows
/// of those is not to be mistaken for the new ones.
fn share_prefix(lodger: &ContainerId, run: u32) -> String {
    format!("{}{run:08x}-", shares_of(lodger))
}

/// The same in all of its runs.
fn shares_of(lodger: &ContainerId) -> String {
    format!("{}-", lodger.short())
}

/// Where a container's current or last run is, if that is another's machine. In its record before anything is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Whose machine it is.
    pub(super) owner: ContainerId,
    /// When the owner's run began: the next one is in another machine.
    pub(super) since: Timestamp,
    /// On the machine's spare disk.
    pub(super) room: usize,
}
