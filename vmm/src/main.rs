//! `berth-vmm`: runs one machine. See `process.rs` for what it does.

use std::path::PathBuf;
use std::process::ExitCode;

use berth_vmm::control::MachineExit;
use clap::Parser;

/// Runs one machine, described by the files of its state directory, until it ends.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The machine's own directory, with its machine.json; sockets, console log and exit file appear here.
    #[arg(long)]
    state_dir: PathBuf,
    /// Take open files and an identity over from the socket that is standard input, and give up everything else
    #[arg(long)]
    jail: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match berth_vmm::run(&arguments.state_dir, arguments.jail) {
        Ok(MachineExit::ShutDown | MachineExit::GuestReset) => ExitCode::SUCCESS,
        Ok(MachineExit::Failed { message }) => complain(&message),
        Err(e) => complain(&format!("{e:#}")),
    }
}

fn complain(message: &str) -> ExitCode {
    eprintln!("berth-vmm: {message}");
    ExitCode::FAILURE
}
