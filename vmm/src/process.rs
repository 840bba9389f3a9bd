//! The `berth-vmm` process: a machine's life from its state directory's lock to its exit file.
//!
//! Leaves its parent's session, and usually outlives it. All it tells its parent directly is one line on standard
//! output, `listening`, once the control socket takes connections.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

use crate::config::{MachineConfig, files};
use crate::control::MachineExit;
use crate::control_server::{self, Controlled};
use crate::device_set;
use crate::machine::Machine;
use crate::state_dir::StateDir;

/// Runs the machine described in `state_dir` until it ends; how it ended is in the exit file then, too.
///
/// # Errors
/// The directory cannot be used, or is in use: nothing was started and nothing written.
pub fn run(state_dir: &Path) -> anyhow::Result<MachineExit> {
    let begun = Instant::now();
    // It fails for the leader of a process group, such as a shell's job: that one wants to keep its terminal.
    rustix::process::setsid().ok();
    let name = || format!("state directory {}", state_dir.display());
    let state_dir = StateDir::enter(state_dir).with_context(name)?;
    let exit = live(begun, &state_dir).unwrap_or_else(|e| failed(format!("{e:#}")));
    state_dir.leave(&exit)?;
    Ok(exit)
}

/// From configuration to end. Must be called from the main thread: accelerators are bound to its life.
fn live(begun: Instant, state_dir: &StateDir) -> anyhow::Result<MachineExit> {
    let (exits, end) = channel();
    end_on_signals(exits.clone())?;
    end_on_panics(exits.clone());
    raise_descriptor_limit();
    let config: MachineConfig = state_dir.config()?;
    let (devices, handles) = device_set::open(state_dir.path(), &config)?;
    let controlled = Arc::new(Controlled::new(begun, handles, exits.clone()));
    control_server::serve(&state_dir.path().join(files::CONTROL), controlled.clone())?;
    announce()?;
    let machine = controlled.started(Machine::start(&config, devices, exits)?);
    let exit = end.recv().unwrap_or_else(|_| failed("nobody is left who could end the machine".into()));
    machine.shut_down();
    Ok(exit)
}

/// Says that the control socket takes connections, and lets go of standard output.
fn announce() -> anyhow::Result<()> {
    // A parent that does not listen need not.
    io::stdout().write_all(b"listening\n").ok();
    io::stdout().flush().ok();
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
}

fn failed(message: String) -> MachineExit {
    MachineExit::Failed { message }
}

/// SIGTERM and SIGINT shut the machine down. Blocked before any thread exists, so that none of them takes the signal.
fn end_on_signals(exits: Sender<MachineExit>) -> anyhow::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.wait().is_ok() {
            // If nobody receives, the process is ending already.
            exits.send(MachineExit::ShutDown).ok();
        }
    })?;
    Ok(())
}

/// A bug in any thread ends the machine with the bug's words, rather than leave it half alive.
fn end_on_panics(exits: Sender<MachineExit>) {
    std::panic::set_hook(Box::new(move |panic| {
        exits.send(failed(format!("berth-vmm: {panic}"))).ok();
    }));
}

/// Every vsock connection is a descriptor, and the usual soft limit is below what one machine may have.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // It cannot fail for a soft limit; if it did, connections beyond it would be refused.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
}
