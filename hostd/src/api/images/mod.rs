//! Image endpoints. The store's calls block, so each runs on a thread of its own.

mod commit;
mod create;
mod import;
mod inspect;
mod list;
mod load;
mod name;
mod pattern;
mod platform;
mod prune;
mod pull;
mod push;
mod remove;
mod save;
mod search;
mod tag;

pub(super) use self::commit::commit;
pub(super) use self::create::create;
pub(super) use self::inspect::{history, inspect};
pub(super) use self::list::{ImageSummary, list};
pub(super) use self::load::load;
pub(super) use self::prune::{prune, until};
pub(super) use self::push::push;
pub(super) use self::remove::remove;
pub(super) use self::save::{save_one, save_several};
pub(super) use self::search::search;
pub(super) use self::tag::tag;
use super::error::{ApiError, ApiResult};
use super::{Daemon, State};
use crate::image::ImageStore;

/// Runs `work` on the image store, off the threads that answer requests.
async fn with_store<T, E>(
    daemon: &Daemon,
    work: impl FnOnce(ImageStore) -> Result<T, E> + Send + 'static,
) -> ApiResult<T>
where
    T: Send + 'static,
    E: Send + 'static,
    ApiError: From<E>,
{
    let store = daemon.engine.images().clone();
    Ok(tokio::task::spawn_blocking(move || work(store)).await??)
}

#[cfg(test)]
pub(super) mod tests;
