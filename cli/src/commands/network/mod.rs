//! `berth network`: the verbs of networks under one noun.

mod connect;
mod create;
mod disconnect;
mod inspect;
mod ls;
pub(super) mod prune;
mod rm;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::outcome::Outcome;

/// Manage networks
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Connect(connect::Arguments),
    Create(Box<create::Arguments>),
    Disconnect(disconnect::Arguments),
    Inspect(inspect::Arguments),
    #[command(visible_alias = "list")]
    Ls(ls::Arguments),
    Prune(prune::Arguments),
    #[command(visible_alias = "remove")]
    Rm(rm::Arguments),
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    match &arguments.verb {
        Verb::Connect(arguments) => connect::execute(arguments, client).await,
        Verb::Disconnect(arguments) => disconnect::execute(arguments, client).await,
        Verb::Create(arguments) => create::execute(arguments, client).await,
        Verb::Inspect(arguments) => inspect::execute(arguments, client).await,
        Verb::Ls(arguments) => ls::execute(arguments, client).await,
        Verb::Prune(arguments) => prune::execute(arguments, client).await,
        Verb::Rm(arguments) => rm::execute(arguments, client).await,
    }
}
