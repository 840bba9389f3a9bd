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
    #[arg(long, required_unless_present = "host_cpuid")]
    state_dir: Option<PathBuf>,
    /// Take open files and an identity over from the socket that is standard input, and give up everything else
    #[arg(long)]
    jail: bool,
    /// Print what KVM on this host offers a guest of its processors, as JSON for machine.json, and do nothing else
    #[arg(long, exclusive = true)]
    host_cpuid: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(state_dir) = arguments.state_dir else { return print_host_cpuid() };
    match berth_vmm::run(&state_dir, arguments.jail) {
        Ok(MachineExit::ShutDown | MachineExit::GuestReset) => ExitCode::SUCCESS,
        Ok(MachineExit::Failed { message }) => complain(&message),
        Err(e) => complain(&format!("{e:#}")),
    }
}

fn print_host_cpuid() -> ExitCode {
    match berth_vmm::host_cpuid().and_then(|leaves| Ok(serde_json::to_string(&leaves)?)) {
        Ok(leaves) => println!("{leaves}"),
        Err(e) => return complain(&format!("{e:#}")),
    }
    ExitCode::SUCCESS
}

fn complain(message: &str) -> ExitCode {
    eprintln!("berth-vmm: {message}");
    ExitCode::FAILURE
}
