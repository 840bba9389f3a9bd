//! The same act on several containers at once, reported in the order they were named.

use futures_util::{StreamExt, stream};

use crate::client::ClientError;
use crate::outcome::{Failure, Outcome};
use crate::output::{note, print};

/// Acts under way at a time: more would only queue in the daemon.
const PARALLEL: usize = 32;

/// What happens to a thing that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Fails,
    /// It is told but is no failure: what was wanted is so already.
    IsTold,
}

/// Prints each name whose act succeeded; the failures come last, together.
pub(super) async fn for_each<'a, F>(
    names: &'a [String],
    missing: Missing,
    act: impl Fn(&'a str) -> F,
) -> Outcome
where
    F: Future<Output = Result<(), ClientError>>,
{
    let acts = names.iter().map(|name| {
        let act = act(name);
        async move { (name, act.await) }
    });
    let mut results = stream::iter(acts).buffered(PARALLEL);
    let mut failures = Vec::new();
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(()) => print(&format!("{name}\n"))?,
            Err(error) if missing == Missing::IsTold && error.is_not_found() => note(&error.to_string()),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(0) } else { Err(Failure::Several(failures)) }
}
