//! `berth system`: the daemon as a whole.

mod check;
mod df;
mod prune;

use clap::{Args, Subcommand};

use super::{events, info};
use crate::client::Client;
use crate::outcome::Outcome;

/// Manage the daemon
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Check(check::Arguments),
    Df(df::Arguments),
    Events(events::Arguments),
    Info(info::Arguments),
    Prune(prune::Arguments),
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    match &arguments.verb {
        Verb::Check(arguments) => check::execute(arguments, client).await,
        Verb::Df(arguments) => df::execute(arguments, client).await,
        Verb::Events(arguments) => events::execute(arguments, client).await,
        Verb::Info(arguments) => info::execute(arguments, client).await,
        Verb::Prune(arguments) => prune::execute(arguments, client).await,
    }
}
