//! One processor: its thread, the states other threads can put it in, and what each exit from the guest means.
//!
//! ```text
//!              pause                     stop, reset, failure
//!   Running <────────> Paused    Running, Paused ──────────> Stopped
//!             resume
//! ```
//!
//! What is wanted is written under a lock and the processor kicked out of the guest; it answers by changing its
//! state. Processors other than the first wait inside KVM until the guest starts them, and are `Running` there.
//! A paused processor stands between two instructions: what its last exit began is finished, so its state is whole.

use std::io;
use std::sync::mpsc::{Sender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler, unblock_signal};

use crate::bus::Bus;
use crate::control::MachineExit;
use crate::jail::ThreadKind;
use crate::kvm::{Exit, Kick, KvmError, Vcpu};
use crate::machine_thread;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Stopped,
}

/// Something to be done with a paused processor, on its own thread: KVM wants all calls from there.
type Errand = Box<dyn FnOnce(&mut Vcpu) + Send>;

/// What is wanted of a processor, and where it is.
struct Shared {
    wanted: State,
    state: State,
    errands: Vec<Errand>,
}

/// [`Shared`] behind its lock.
struct Control {
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the processor shall do. Other threads see that it does, unless it is to pause: see [`Self::stand_by`].
    fn obey(&self) -> State {
        let mut shared = self.lock();
        let wanted = shared.wanted;
        if wanted != State::Paused && shared.state != wanted {
            shared.state = wanted;
            self.changed.notify_all();
        }
        wanted
    }

    /// Pauses the processor until something else is wanted.
    fn stand_by(&self, vcpu: &mut Vcpu) {
        let mut shared = self.lock();
        while shared.wanted == State::Paused {
            shared.state = State::Paused;
            self.changed.notify_all();
            if let Some(errand) = shared.errands.pop() {
                drop(shared);
                errand(vcpu);
                shared = self.lock();
            } else {
                shared = self.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Leaves something to do for when the processor is paused; a stopped one does nothing.
    fn send(&self, errand: Errand) {
        let mut shared = self.lock();
        if shared.state != State::Stopped {
            shared.errands.push(errand);
            self.changed.notify_all();
        }
    }

    /// A stopped processor stays so.
    fn want(&self, wanted: State) {
        let mut shared = self.lock();
        if shared.wanted != State::Stopped {
            shared.wanted = wanted;
        }
        self.changed.notify_all();
    }

    fn stopped(&self) {
        let mut shared = self.lock();
        (shared.wanted, shared.state) = (State::Stopped, State::Stopped);
        shared.errands.clear();
        self.changed.notify_all();
    }

    /// Waits until the processor does what is wanted. It leaves the guest when kicked, so this is not long.
    fn settle(&self) {
        let settled = |shared: &mut Shared| shared.state != shared.wanted && shared.state != State::Stopped;
        drop(self.changed.wait_while(self.lock(), settled));
    }
}

/// The devices that processors reach.
#[derive(Debug)]
pub(crate) struct Buses {
    pub(crate) ports: Bus,
    pub(crate) mmio: Bus,
}

/// Whether a processor enters the guest at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstState {
    Running,
    Paused,
}

/// A processor on its thread. Dropping it stops it and waits for the thread.
pub(crate) struct RunningVcpu {
    control: Arc<Control>,
    kick: Kick,
    thread: Option<JoinHandle<()>>,
}

impl RunningVcpu {
    /// Starts `vcpu`, number `id`, after [`install_kick_signal`]. A reset by the guest or a failure goes to `exits`.
    pub(crate) fn start(
        vcpu: Vcpu,
        id: u8,
        first: FirstState,
        buses: Arc<Buses>,
        exits: Sender<MachineExit>,
    ) -> io::Result<Self> {
        let wanted = match first {
            FirstState::Running => State::Running,
            FirstState::Paused => State::Paused,
        };
        let shared = Mutex::new(Shared { wanted, state: State::Running, errands: Vec::new() });
        let control = Arc::new(Control { shared, changed: Condvar::new() });
        let kick = vcpu.kick_handle();
        let on_thread = StoppedAtEnd(control.clone());
        let kind = ThreadKind::Vcpu;
        let body = move || run(vcpu, id, &buses, &on_thread.0);
        let thread = machine_thread::spawn(kind, format!("{}{id}", kind.name()), exits, body)?;
        Ok(Self { control, kick, thread: Some(thread) })
    }

    /// Asks the processor to leave the guest; [`Self::settle`] waits for it.
    pub(crate) fn pause(&self) {
        self.control.want(State::Paused);
        self.kick();
    }

    pub(crate) fn resume(&self) {
        self.control.want(State::Running);
    }

    pub(crate) fn settle(&self) {
        self.control.settle();
    }

    /// Has the paused processor's thread do something, and gives the result. `None`: the processor has stopped.
    pub(crate) fn while_paused<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Vcpu) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = sync_channel(1);
        // Whoever wanted the result is gone if it cannot be sent.
        self.control.send(Box::new(move |vcpu| drop(sender.send(what(vcpu)))));
        result.recv().ok()
    }

    /// Asks the processor to end. Dropping waits for it.
    pub(crate) fn stop(&self) {
        self.control.want(State::Stopped);
        self.kick();
    }

    fn kick(&self) {
        self.kick.set();
        if let Some(thread) = &self.thread {
            // Fails when the thread has ended, and then there is nothing to interrupt.
            let _ = thread.kill(SIGRTMIN());
        }
    }
}

impl Drop for RunningVcpu {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // The thread catches its own panics.
            drop(thread.join());
        }
    }
}

/// Whatever way a processor's thread ends, nobody waits for it any more.
struct StoppedAtEnd(Arc<Control>);

impl Drop for StoppedAtEnd {
    fn drop(&mut self) {
        self.0.stopped();
    }
}

/// Makes kicks possible in this process. The signal does nothing; that it arrives takes a processor out of the guest.
pub(crate) fn install_kick_signal() -> io::Result<()> {
    extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    Ok(register_signal_handler(SIGRTMIN(), ignore)?)
}

/// Runs until told to stop, or until the guest or KVM ends it: then the result says why.
fn run(mut vcpu: Vcpu, id: u8, buses: &Buses, control: &Control) -> Option<MachineExit> {
    // Whoever started this process may have blocked it.
    if let Err(error) = unblock_signal(SIGRTMIN()) {
        return Some(MachineExit::Failed { message: format!("vCPU {id} cannot be kicked: {error:?}") });
    }
    loop {
        vcpu.accept_kicks();
        let result = match control.obey() {
            State::Running => step(&mut vcpu, buses),
            State::Paused => pause(&mut vcpu, buses, control),
            State::Stopped => return None,
        };
        match result {
            Ok(Step::GoOn | Step::Kicked) => {}
            Ok(Step::Reset) => return Some(MachineExit::GuestReset),
            Err(problem) => {
                let problem = anyhow::Error::from(problem);
                let message = format!("vCPU {id}: {problem:#}, {}", vcpu.describe_failure());
                return Some(MachineExit::Failed { message });
            }
        }
    }
}

/// Finishes what the last exit began, which may lead to further ones, and stands by.
fn pause(vcpu: &mut Vcpu, buses: &Buses, control: &Control) -> Result<Step, Problem> {
    vcpu.return_at_once();
    loop {
        match step(vcpu, buses)? {
            Step::GoOn => {}
            Step::Kicked => {
                control.stand_by(vcpu);
                return Ok(Step::GoOn);
            }
            Step::Reset => return Ok(Step::Reset),
        }
    }
}

enum Step {
    GoOn,
    /// Nothing is left to be done for the guest.
    Kicked,
    Reset,
}

/// Runs guest code until it needs something from outside, and does that.
fn step(vcpu: &mut Vcpu, buses: &Buses) -> Result<Step, Problem> {
    match vcpu.run()? {
        Exit::PortRead { port, data } => buses.ports.read(port.into(), data),
        Exit::PortWrite { port, data } => buses.ports.write(port.into(), data),
        Exit::MmioRead { address, data } => buses.mmio.read(address, data),
        Exit::MmioWrite { address, data } => buses.mmio.write(address, data),
        Exit::Kicked => {
            vcpu.announce_pause();
            return Ok(Step::Kicked);
        }
        Exit::NotEmulated => {
            if !vcpu.complete_instruction()? {
                return Err(Problem::Stuck("could not be emulated"));
            }
        }
        Exit::Failed(what) => return Err(Problem::Stuck(what)),
        Exit::Reset => return Ok(Step::Reset),
    }
    Ok(Step::GoOn)
}

/// Why a processor cannot go on; [`Vcpu::describe_failure`] says where.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Stuck(&'static str),
    #[error(transparent)]
    Kvm(#[from] KvmError),
}
