//! The agent: PID 1 of every machine, and the runtime of the containers in it.
//!
//! It says nothing to anyone but the host, over vsock, in the messages of `berth-protocol`. The same program is also the
//! stage that becomes a container's process; which of the two it is says its name.

mod agent;
mod archive;
mod boot;
mod bpf;
mod clock;
mod container;
mod entropy;
mod failure;
mod files;
mod identity;
mod names;
mod network;
mod processes;
mod reaper;
mod relay;
mod server;
mod sockets;
mod stage;
mod streams;
mod sys;
mod watches;

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use agent::Agent;

fn main() -> ExitCode {
    let started_us = clock::since_boot_us();
    let name = std::env::args_os().next().unwrap_or_default();
    if stage::is_called(&name) {
        return stage::main();
    }
    if std::process::id() != 1 {
        eprintln!("berth-agent: this is the first process of a machine and runs nowhere else");
        return ExitCode::FAILURE;
    }
    match run(started_us) {
        Ok(never) => match never {},
        // The kernel panics when its first process ends, which ends the machine with this line on its console.
        Err(error) => {
            eprintln!("berth-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// PID 1, as a list.
fn run(started_us: u64) -> io::Result<Infallible> {
    boot::prepare()?;
    network::bring_up_loopback()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let tasks = tokio::task::LocalSet::new();
    let agent = Rc::new(Agent::new(started_us));
    tasks.block_on(&runtime, server::serve(agent))
}
