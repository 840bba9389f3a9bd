//! The `berth-vmm` process: a machine's life from its state directory's lock to its exit file.
//!
//! Leaves its parent's session, and usually outlives it. All it tells its parent directly is one line on standard
//! output, `listening`, once the control socket takes connections. Everything that needs a path is opened before the
//! jail is closed; what looks at files and at the guest comes after.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

use crate::boot::cpuid;
use crate::config::{Accelerator, CpuidLeaf, MachineConfig, files};
use crate::control::MachineExit;
use crate::control_server::{self, Controlled};
use crate::device_set;
use crate::handover::{self, Handover};
use crate::heap;
use crate::host_files::HOST_FILES;
use crate::jail::{self, ThreadKind};
use crate::kvm;
use crate::machine::Machine;
use crate::machine_thread;
use crate::state_dir::StateDir;

/// What KVM on this host offers a guest of its processors, for [`MachineConfig::host_cpuid`].
///
/// # Errors
/// There is no KVM here, or it does not say.
pub fn host_cpuid() -> anyhow::Result<Vec<CpuidLeaf>> {
    Ok(cpuid::to_leaves(&kvm::Host::open()?.supported_cpuid()?))
}

/// Runs the machine described in `state_dir` until it ends; how it ended is in the exit file then, too. With `jailed`,
/// standard input is a [`handover`].
///
/// # Errors
/// The directory cannot be used, or is in use, or nothing was handed over: nothing was started and nothing written.
pub fn run(state_dir: &Path, jailed: bool) -> anyhow::Result<MachineExit> {
    let begun = Instant::now();
    heap::share();
    // It fails for the leader of a process group, such as a shell's job: that one wants to keep its terminal.
    rustix::process::setsid().ok();
    let handover = if jailed { Some(take_over().context("the handover on standard input")?) } else { None };
    let name = || format!("state directory {}", state_dir.display());
    let state_dir = StateDir::enter(state_dir).with_context(name)?;
    let exit = live(begun, &state_dir, handover).unwrap_or_else(|e| failed(format!("{e:#}")));
    state_dir.leave(&exit, jailed)?;
    Ok(exit)
}

/// Takes over what the daemon opened, and enters the control groups before anything is made that counts in them.
fn take_over() -> anyhow::Result<Handover> {
    let mut handover = handover::receive(io::stdin())?;
    for group in &handover.orders.cgroups {
        let procs = handover.files.extract_if(.., |(path, _)| path == group).next();
        let (_, procs) = procs.with_context(|| format!("{} was not handed over", group.display()))?;
        // Whoever writes 0 means itself.
        File::from(procs).write_all(b"0").with_context(|| group.display().to_string())?;
    }
    Ok(handover)
}

/// From configuration to end. Must be called from the main thread: accelerators are bound to its life.
fn live(begun: Instant, state_dir: &StateDir, handover: Option<Handover>) -> anyhow::Result<MachineExit> {
    let (exits, end) = channel();
    let signals = block_signals()?;
    end_on_panics(exits.clone());
    let config: MachineConfig = state_dir.config()?;
    let nowhere = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let orders = handover.map(|handover| {
        match config.accelerator {
            Accelerator::Kvm => HOST_FILES.restrict_to(handover.files),
            // QEMU finds its files by itself.
            Accelerator::Tcg => HOST_FILES.prefer(handover.files),
        }
        handover.orders
    });
    let (devices, handles) = device_set::open(state_dir.path(), &config)?;
    let control = UnixListener::bind(state_dir.path().join(files::CONTROL))?;
    match (&orders, config.accelerator) {
        (Some(orders), Accelerator::Kvm) => jail::close(orders, &jail::Limits::of(&config))?,
        (Some(_), Accelerator::Tcg) => jail::narrow()?,
        (None, _) => raise_descriptor_limit(),
    }
    let controlled = Arc::new(Controlled::new(begun, handles, exits.clone()));
    announce(&nowhere)?;
    let is_paused = config.restore.as_ref().is_some_and(|restore| restore.paused);
    // The guest first: signals wait until somebody takes them, connections until somebody accepts them.
    let machine = controlled.started(Machine::start(&config, devices, exits.clone())?, is_paused);
    end_on_signals(signals, exits)?;
    control_server::serve(control, controlled.clone())?;
    HOST_FILES.release();
    jail::enter_thread(ThreadKind::Main)?;
    let exit = end.recv().unwrap_or_else(|_| failed("nobody is left who could end the machine".into()));
    machine.shut_down();
    Ok(exit)
}

/// Says that the control socket takes connections, and lets go of standard output and input.
fn announce(nowhere: &File) -> anyhow::Result<()> {
    // A parent that does not listen need not.
    io::stdout().write_all(b"listening\n").ok();
    io::stdout().flush().ok();
    rustix::stdio::dup2_stdin(nowhere)?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
}

fn failed(message: String) -> MachineExit {
    MachineExit::Failed { message }
}

/// Blocks SIGTERM and SIGINT before any thread exists, so that none of them takes the signal. A file that may not
/// grow is an error and no signal.
fn block_signals() -> nix::Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGXFSZ]).thread_block()?;
    Ok(signals)
}

/// SIGTERM and SIGINT shut the machine down.
fn end_on_signals(signals: SigSet, exits: Sender<MachineExit>) -> io::Result<()> {
    let kind = ThreadKind::Signals;
    machine_thread::spawn(kind, kind.name().to_owned(), exits, move || {
        signals.wait().is_ok().then_some(MachineExit::ShutDown)
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
    if limit.current == limit.maximum {
        return;
    }
    // It cannot fail for a soft limit; if it did, connections beyond it would be refused.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
}
