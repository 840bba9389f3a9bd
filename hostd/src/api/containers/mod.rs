//! Container endpoints.

mod archive;
mod attach;
mod changes;
mod create;
mod duration;
mod export;
mod inspect;
mod lifecycle;
mod list;
mod logs;
mod mounts;
mod network;
mod prune;
mod stats;
mod status;
mod timeline;
mod top;
mod update;
mod wait;

use super::State;

pub(super) use self::archive::{get as get_archive, head as head_archive, put as put_archive};
pub(super) use self::attach::{attach, attach_websocket, resize, terminal_size};
pub(super) use self::changes::changes;
#[cfg(test)]
pub(super) use self::create::coverage;
pub(super) use self::create::{RUNTIMES, check_variable, create, endpoint};
pub(super) use self::export::export;
pub(super) use self::inspect::inspect;
pub(super) use self::lifecycle::{kill, pause, remove, rename, restart, start, stop, unpause};
pub(super) use self::list::{ContainerSummary, list, summary};
pub(super) use self::logs::logs;
pub(super) use self::prune::prune;
#[cfg(test)]
pub(super) use self::stats::example as example_of_stats;
pub(super) use self::stats::stats;
#[cfg(test)]
pub(super) use self::top::example as example_of_top;
pub(super) use self::top::top;
pub(super) use self::update::update;
pub(super) use self::wait::wait;
