//! `berth completions`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::outcome::Outcome;
use crate::output::print;

/// Print the completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  berth completions bash > /etc/bash_completion.d/berth
  berth completions zsh > \"${fpath[1]}/_berth\"
  berth completions fish > ~/.config/fish/completions/berth.fish")]
pub(crate) struct Arguments {
    shell: Shell,
}

pub(super) fn execute(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut crate::arguments::Arguments::command(),
        "berth",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
