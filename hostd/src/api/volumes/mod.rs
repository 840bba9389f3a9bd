//! `/volumes`: Docker's shape of volumes, one endpoint a file.

mod create;
mod list;
mod prune;
mod remove;
mod update;

use super::State;

pub(super) use self::create::create;
pub(super) use self::list::{VolumeResource, inspect, list};
pub(super) use self::prune::prune;
pub(super) use self::remove::remove;
pub(super) use self::update::update;

#[cfg(test)]
mod tests;
