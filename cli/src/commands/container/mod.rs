//! `berth container`: the verbs of containers under one noun. Most are verbs of their own too.

mod inspect;
pub(super) mod prune;

use clap::{Args, Subcommand};

use super::{
    attach, commit, cp, create, diff, exec, export, kill, logs, pause, port, ps, rename, restart, rm, run,
    start, stats, stop, top, unpause, update, wait,
};
use crate::client::Client;
use crate::outcome::Outcome;

/// Manage containers
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Attach(attach::Arguments),
    Commit(commit::Arguments),
    Cp(cp::Arguments),
    Create(Box<create::Arguments>),
    Diff(diff::Arguments),
    Exec(exec::Arguments),
    Export(export::Arguments),
    Inspect(inspect::Arguments),
    Kill(kill::Arguments),
    Logs(logs::Arguments),
    Pause(pause::Arguments),
    // With its own other name, `ls`.
    #[command(visible_alias = "list")]
    Ps(ps::Arguments),
    Port(port::Arguments),
    Prune(prune::Arguments),
    Rename(rename::Arguments),
    Restart(restart::Arguments),
    Rm(rm::Arguments),
    Run(Box<run::Arguments>),
    Start(start::Arguments),
    Stats(stats::Arguments),
    Stop(stop::Arguments),
    Top(top::Arguments),
    Unpause(unpause::Arguments),
    Update(Box<update::Arguments>),
    Wait(wait::Arguments),
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    match &arguments.verb {
        Verb::Attach(arguments) => attach::execute(arguments, client).await,
        Verb::Commit(arguments) => commit::execute(arguments, client).await,
        Verb::Cp(arguments) => cp::execute(arguments, client).await,
        Verb::Create(arguments) => create::execute(arguments, client).await,
        Verb::Diff(arguments) => diff::execute(arguments, client).await,
        Verb::Exec(arguments) => exec::execute(arguments, client).await,
        Verb::Export(arguments) => export::execute(arguments, client).await,
        Verb::Inspect(arguments) => inspect::execute(arguments, client).await,
        Verb::Kill(arguments) => kill::execute(arguments, client).await,
        Verb::Logs(arguments) => logs::execute(arguments, client).await,
        Verb::Pause(arguments) => pause::execute(arguments, client).await,
        Verb::Ps(arguments) => ps::execute(arguments, client).await,
        Verb::Port(arguments) => port::execute(arguments, client).await,
        Verb::Prune(arguments) => prune::execute(arguments, client).await,
        Verb::Rename(arguments) => rename::execute(arguments, client).await,
        Verb::Restart(arguments) => restart::execute(arguments, client).await,
        Verb::Rm(arguments) => rm::execute(arguments, client).await,
        Verb::Run(arguments) => run::execute(arguments, client).await,
        Verb::Start(arguments) => start::execute(arguments, client).await,
        Verb::Stats(arguments) => stats::execute(arguments, client).await,
        Verb::Stop(arguments) => stop::execute(arguments, client).await,
        Verb::Top(arguments) => top::execute(arguments, client).await,
        Verb::Unpause(arguments) => unpause::execute(arguments, client).await,
        Verb::Update(arguments) => update::execute(arguments, client).await,
        Verb::Wait(arguments) => wait::execute(arguments, client).await,
    }
}
