//! `berth logout`: forget who the user is at a registry. The daemon knows nothing of logins.

use clap::Args;

use crate::credentials::{ConfigFile, HUB, server_key};
use crate::outcome::Outcome;
use crate::output::print;

/// Log out from a registry
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth logout                      Docker Hub
  berth logout localhost:5000")]
pub(crate) struct Arguments {
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

pub(super) fn execute(arguments: &Arguments) -> Outcome {
    let server = server_key(arguments.server.as_deref().unwrap_or(HUB));
    let known = ConfigFile::of_user()?.erase(server)?;
    let what = if known { "Removing login credentials for" } else { "Not logged in to" };
    print(&format!("{what} {server}\n"))?;
    Ok(0)
}
