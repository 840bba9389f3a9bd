//! `/networks`: Docker's shape of networks, one endpoint a file.

mod create;
mod list;
mod prune;
mod remove;

use super::State;

pub(super) use self::create::create;
pub(super) use self::list::{inspect, list};
pub(super) use self::prune::prune;
pub(super) use self::remove::remove;
