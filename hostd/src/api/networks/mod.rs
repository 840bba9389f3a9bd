//! `/networks`: Docker's shape of networks, one endpoint a file.

mod connect;
mod create;
mod disconnect;
mod list;
mod prune;
mod remove;

use super::State;

pub(super) use self::connect::connect;
pub(super) use self::create::create;
pub(super) use self::disconnect::disconnect;
pub(super) use self::list::{inspect, list};
pub(super) use self::prune::prune;
pub(super) use self::remove::remove;
