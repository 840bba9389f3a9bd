//! Threads a machine cannot live without: when one ends for a reason of its own, so does the machine. In the jail each
//! is left what its kind needs.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::thread::{Builder, JoinHandle};

use crate::control::MachineExit;
use crate::jail::{self, ThreadKind};

/// Runs `body` on a new thread of that kind. What it returns, if anything, or a panic is why the machine ends.
pub(crate) fn spawn(
    kind: ThreadKind,
    name: String,
    exits: Sender<MachineExit>,
    body: impl FnOnce() -> Option<MachineExit> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.clone()).spawn(move || {
        let failed = |what| Some(MachineExit::Failed { message: format!("berth-vmm: thread {name} {what}") });
        let exit = match jail::enter_thread(kind) {
            Ok(()) => catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| failed("panicked".to_owned())),
            Err(error) => failed(format!("cannot filter its system calls: {error}")),
        };
        if let Some(exit) = exit {
            // Nobody listens any more: the machine has ended for another reason.
            drop(exits.send(exit));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_panic_ends_the_machine_and_names_the_thread() {
        let (sender, exits) = mpsc::channel();
        let thread = spawn(ThreadKind::Disks, "disks".to_owned(), sender, || panic!("a bug")).unwrap();
        thread.join().unwrap();
        let MachineExit::Failed { message } = exits.recv().unwrap() else { panic!("another exit") };
        assert!(message.contains("disks"), "{message}");
    }

    #[test]
    fn a_thread_that_was_told_to_end_ends_nothing_else() {
        let (sender, exits) = mpsc::channel();
        spawn(ThreadKind::Disks, "disks".to_owned(), sender, || None).unwrap().join().unwrap();
        assert!(exits.recv().is_err());
    }
}
