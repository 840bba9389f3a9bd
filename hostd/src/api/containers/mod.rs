//! Container endpoints.

mod attach;
mod create;
mod duration;
mod inspect;
mod lifecycle;
mod list;
mod logs;
mod status;
mod timeline;
mod wait;

use super::State;

pub(super) use self::attach::{attach, resize, terminal_size};
pub(super) use self::create::{check_variable, create};
pub(super) use self::inspect::inspect;
pub(super) use self::lifecycle::{kill, remove, rename, restart, start, stop};
pub(super) use self::list::{ContainerSummary, list, summary};
pub(super) use self::logs::logs;
pub(super) use self::wait::wait;
