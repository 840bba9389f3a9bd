//! `berth top`: the processes of a container.

use clap::Args;

use crate::client::Client;
use crate::outcome::Outcome;
use crate::output::print;
use crate::table;

/// Display the running processes of a container
#[derive(Args, Debug)]
#[command(
    override_usage = "berth top CONTAINER [PS OPTIONS]",
    after_help = "Examples:
  berth top web
  berth top web -o pid,rss,cmd"
)]
pub(crate) struct Arguments {
    container: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    ps_options: Vec<String>,
}

pub(super) async fn execute(arguments: &Arguments, client: &Client) -> Outcome {
    let options = arguments.ps_options.join(" ");
    let options = Some(options.as_str()).filter(|options| !options.is_empty());
    let top = client.top(&arguments.container, options).await?;
    let rows: Vec<Vec<String>> = std::iter::once(top.titles).chain(top.processes).collect();
    print(&table::align(&rows))?;
    Ok(0)
}
