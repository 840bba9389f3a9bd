//! `berth image`: the verbs of images under one noun. Most are verbs of their own too.

mod inspect;
pub(super) mod prune;

use clap::{Args, Subcommand};

use super::{history, images, import, load, pull, push, rmi, save, tag};
use crate::client::Client;
use crate::outcome::Outcome;

/// Manage images
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    History(history::Arguments),
    Import(import::Arguments),
    Inspect(inspect::Arguments),
    Load(load::Arguments),
    #[command(visible_alias = "list")]
    Ls(images::Arguments),
    Prune(prune::Arguments),
    Pull(pull::Arguments),
    Push(push::Arguments),
    #[command(visible_alias = "remove")]
    Rm(rmi::Arguments),
    Save(save::Arguments),
    Tag(tag::Arguments),
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    match &arguments.verb {
        Verb::History(arguments) => history::execute(arguments, client).await,
        Verb::Import(arguments) => import::execute(arguments, client).await,
        Verb::Inspect(arguments) => inspect::execute(arguments, client).await,
        Verb::Load(arguments) => load::execute(arguments, client).await,
        Verb::Ls(arguments) => images::execute(arguments, client).await,
        Verb::Prune(arguments) => prune::execute(arguments, client).await,
        Verb::Pull(arguments) => pull::execute(arguments, client).await,
        Verb::Push(arguments) => push::execute(arguments, client).await,
        Verb::Rm(arguments) => rmi::execute(arguments, client).await,
        Verb::Save(arguments) => save::execute(arguments, client).await,
        Verb::Tag(arguments) => tag::execute(arguments, client).await,
    }
}
