//! Where the image comes from when it is not here.

use clap::{Args, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    Always,
    Missing,
    Never,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Image")]
pub(crate) struct PullOptions {
    /// Pull image before running
    #[arg(long = "pull", value_enum, value_name = "POLICY", default_value = "missing")]
    pub(crate) policy: PullPolicy,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
