//! Bare 64-bit guests on the real `/dev/kvm`: they prove what a machine does without a kernel that takes seconds.
//!
//! A guest ([`program`]) is a few instructions, wrapped into an ELF file ([`elf`]) and booted like any kernel. It
//! speaks through the serial port and ends by pulling the reset line. Where `/dev/kvm` does not open, a test says
//! so and why, and does nothing.

mod device_program;
mod device_tests;
mod elf;
mod program;
mod snapshot_program;
pub(crate) mod snapshot_tests;
mod tests;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::config::{Accelerator, MachineConfig};
use crate::control::MachineExit;
use crate::kvm;
use crate::kvm_machine::{Console, KvmMachine, RestoreError, StartError};
use crate::snapshot::OpenedSnapshot;
use crate::virtio::VirtioDevice;

/// Far more than any guest here needs, on a loaded host with a software KVM too.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether this host can run these tests; if not, says so.
fn kvm_opens() -> bool {
    match kvm::Host::open() {
        Ok(_) => {
            eprintln!("accelerator: kvm, for bare guests");
            true
        }
        Err(reason) => {
            skip(&reason.to_string());
            false
        }
    }
}

/// In the words that `cargo xtask test` repeats in its summary. A test's thread has its name.
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    eprintln!("skipped: {}: {reason}", thread.name().unwrap_or("a test"));
}

/// Ends a test early, and loudly, where there is no KVM.
macro_rules! needs_kvm {
    () => {
        if !$crate::stub_guest::kvm_opens() {
            return;
        }
    };
}
pub(crate) use needs_kvm;

/// What the guest printed so far.
#[derive(Default)]
struct Printed {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
}

/// A machine that runs one of the programs.
struct Stub {
    machine: KvmMachine,
    exits: Receiver<MachineExit>,
    printed: Arc<Printed>,
    _directory: Option<tempfile::TempDir>,
}

impl Stub {
    fn boot(program: &[u8], vcpus: u8, devices: Vec<Box<dyn VirtioDevice>>) -> Self {
        Self::try_boot(&elf::wrap(program), vcpus, devices).unwrap()
    }

    fn try_boot(kernel: &[u8], vcpus: u8, devices: Vec<Box<dyn VirtioDevice>>) -> Result<Self, StartError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kernel");
        std::fs::write(&path, kernel).unwrap();
        let stub = Self::start(&config(path, vcpus), devices)?;
        Ok(Self { _directory: Some(directory), ..stub })
    }

    fn start(config: &MachineConfig, devices: Vec<Box<dyn VirtioDevice>>) -> Result<Self, StartError> {
        Self::with_console(|console, exits| KvmMachine::boot(config, devices, console, exits))
    }

    /// A machine that goes on from the snapshot in `directory`.
    fn restore(
        config: &MachineConfig,
        directory: &Path,
        devices: Vec<Box<dyn VirtioDevice>>,
    ) -> Result<Self, StartError> {
        let opened = OpenedSnapshot::open(directory).map_err(RestoreError::from)?;
        Self::with_console(|console, exits| KvmMachine::restore(config, opened, devices, console, exits))
    }

    fn with_console(
        start: impl FnOnce(&Console, &Sender<MachineExit>) -> Result<KvmMachine, StartError>,
    ) -> Result<Self, StartError> {
        let printed = Arc::new(Printed::default());
        let console: Console = {
            let printed = printed.clone();
            Arc::new(move |bytes| {
                printed.bytes.lock().unwrap().extend_from_slice(bytes);
                printed.more.notify_all();
            })
        };
        let (sender, exits) = channel();
        let machine = start(&console, &sender)?;
        Ok(Self { machine, exits, printed, _directory: None })
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.bytes.lock().unwrap()).into_owned()
    }

    /// Waits until the guest has printed `text`.
    #[track_caller]
    fn prints(&self, text: &str) {
        let has_text = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let end = Instant::now() + DEADLINE;
        let mut bytes = self.printed.bytes.lock().unwrap();
        while !has_text(&bytes) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} in {:?}", String::from_utf8_lossy(&bytes));
            if let Ok(exit) = self.exits.try_recv()
                && !has_text(&bytes)
            {
                panic!("{exit:?} after {:?}", String::from_utf8_lossy(&bytes));
            }
            bytes = self.printed.more.wait_timeout(bytes, left.min(Duration::from_millis(100))).unwrap().0;
        }
    }

    /// Waits for the machine's end.
    fn exit(&self) -> MachineExit {
        self.exits
            .recv_timeout(DEADLINE)
            .unwrap_or_else(|_| panic!("still runs, printed {:?}", self.printed()))
    }
}

fn config(kernel: PathBuf, vcpus: u8) -> MachineConfig {
    MachineConfig {
        id: "stub".to_owned(),
        accelerator: Accelerator::Kvm,
        vcpus,
        memory_mib: 32,
        kernel,
        initramfs: None,
        command_line: String::new(),
        disks: Vec::new(),
        network_cards: vec![],
        balloon: None,
        shares: vec![],
        guest_cid: 3,
        console_limit_bytes: 1 << 20,
        host_cpuid: vec![],
        restore: None,
        qemu: PathBuf::new(),
    }
}
