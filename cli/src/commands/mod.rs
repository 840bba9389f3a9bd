//! The list of commands: one verb, one file. Each file has the verb's `Arguments` and its `execute`.

mod archive;
mod attach;
mod attached;
mod commit;
mod completions;
mod consent;
mod container;
mod cp;
mod create;
mod diff;
mod doctor;
mod each;
mod events;
mod exec;
mod export;
mod filters;
mod history;
mod image;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod manifest;
mod network;
mod pause;
mod port;
mod progress;
mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod timeline;
mod top;
mod unpause;
mod update;
mod version;
mod volume;
mod wait;

use clap::Subcommand;

use crate::client::Client;
use crate::host::HostError;
use crate::outcome::Outcome;

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Run(Box<run::Arguments>),
    Create(Box<create::Arguments>),
    Start(start::Arguments),
    Attach(attach::Arguments),
    Exec(exec::Arguments),
    Ps(ps::Arguments),
    Logs(logs::Arguments),
    Inspect(inspect::Arguments),
    Stop(stop::Arguments),
    Kill(kill::Arguments),
    Restart(restart::Arguments),
    Pause(pause::Arguments),
    Unpause(unpause::Arguments),
    Update(Box<update::Arguments>),
    Top(top::Arguments),
    Stats(stats::Arguments),
    Wait(wait::Arguments),
    Rename(rename::Arguments),
    Rm(rm::Arguments),
    Port(port::Arguments),
    Container(Box<container::Arguments>),
    Image(image::Arguments),
    Images(images::Arguments),
    Network(network::Arguments),
    Volume(volume::Arguments),
    History(history::Arguments),
    Tag(tag::Arguments),
    Pull(pull::Arguments),
    Push(push::Arguments),
    Save(save::Arguments),
    Load(load::Arguments),
    Commit(commit::Arguments),
    Diff(diff::Arguments),
    Export(export::Arguments),
    Cp(cp::Arguments),
    Import(import::Arguments),
    Rmi(rmi::Arguments),
    Search(search::Arguments),
    Manifest(manifest::Arguments),
    Login(login::Arguments),
    Logout(logout::Arguments),
    System(system::Arguments),
    Events(events::Arguments),
    Version(version::Arguments),
    Info(info::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
}

impl Command {
    /// Runs the verb. The verbs that work without a daemon get to see why none could be chosen.
    pub(crate) async fn execute(self, client: Result<Client, HostError>) -> Outcome {
        match self {
            Self::Run(arguments) => run::execute(&arguments, &client?).await,
            Self::Create(arguments) => create::execute(&arguments, &client?).await,
            Self::Start(arguments) => start::execute(&arguments, &client?).await,
            Self::Attach(arguments) => attach::execute(&arguments, &client?).await,
            Self::Exec(arguments) => exec::execute(&arguments, &client?).await,
            Self::Ps(arguments) => ps::execute(&arguments, &client?).await,
            Self::Logs(arguments) => logs::execute(&arguments, &client?).await,
            Self::Inspect(arguments) => inspect::execute(&arguments, &client?).await,
            Self::Stop(arguments) => stop::execute(&arguments, &client?).await,
            Self::Kill(arguments) => kill::execute(&arguments, &client?).await,
            Self::Restart(arguments) => restart::execute(&arguments, &client?).await,
            Self::Pause(arguments) => pause::execute(&arguments, &client?).await,
            Self::Unpause(arguments) => unpause::execute(&arguments, &client?).await,
            Self::Update(arguments) => update::execute(&arguments, &client?).await,
            Self::Top(arguments) => top::execute(&arguments, &client?).await,
            Self::Stats(arguments) => stats::execute(&arguments, &client?).await,
            Self::Wait(arguments) => wait::execute(&arguments, &client?).await,
            Self::Rename(arguments) => rename::execute(&arguments, &client?).await,
            Self::Rm(arguments) => rm::execute(&arguments, &client?).await,
            Self::Port(arguments) => port::execute(&arguments, &client?).await,
            Self::Container(arguments) => container::execute(&arguments, &client?).await,
            Self::Image(arguments) => image::execute(&arguments, &client?).await,
            Self::History(arguments) => history::execute(&arguments, &client?).await,
            Self::Tag(arguments) => tag::execute(&arguments, &client?).await,
            Self::Save(arguments) => save::execute(&arguments, &client?).await,
            Self::Commit(arguments) => commit::execute(&arguments, &client?).await,
            Self::Diff(arguments) => diff::execute(&arguments, &client?).await,
            Self::Cp(arguments) => cp::execute(&arguments, &client?).await,
            Self::Export(arguments) => export::execute(&arguments, &client?).await,
            Self::Import(arguments) => import::execute(&arguments, &client?).await,
            Self::System(arguments) => system::execute(&arguments, &client?).await,
            Self::Network(arguments) => network::execute(&arguments, &client?).await,
            Self::Volume(arguments) => volume::execute(&arguments, &client?).await,
            Self::Images(arguments) => images::execute(&arguments, &client?).await,
            Self::Pull(arguments) => pull::execute(&arguments, &client?).await,
            Self::Push(arguments) => push::execute(&arguments, &client?).await,
            Self::Search(arguments) => search::execute(&arguments, &client?).await,
            Self::Manifest(arguments) => manifest::execute(&arguments, &client?).await,
            Self::Login(arguments) => login::execute(&arguments, &client?).await,
            Self::Logout(arguments) => logout::execute(&arguments),
            Self::Load(arguments) => load::execute(&arguments, &client?).await,
            Self::Rmi(arguments) => rmi::execute(&arguments, &client?).await,
            Self::Events(arguments) => events::execute(&arguments, &client?).await,
            Self::Info(arguments) => info::execute(&arguments, &client?).await,
            Self::Version(arguments) => version::execute(&arguments, client).await,
            Self::Doctor(arguments) => doctor::execute(arguments, client).await,
            Self::Completions(arguments) => completions::execute(&arguments),
        }
    }
}
