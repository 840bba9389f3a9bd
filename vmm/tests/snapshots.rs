//! The real `berth-vmm` takes snapshots and goes on from them, asked by way of its files and its control socket only.
#![expect(clippy::unwrap_used, reason = "tests state their expectations with it")]

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_vmm::config::{Accelerator, CpuidLeaf, MachineConfig, RestoreConfig, files};
use berth_vmm::control::{MachineExit, Reply, Request, RunState};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const LOAD_ADDRESS: u64 = 1 << 20;

/// Prints the alphabet on its serial port, over and over, and not too fast.
const GUEST: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'a', // mov al, 'a'
    0xee, // print: out dx, al
    0xb9, 0xd0, 0x07, 0, 0, // mov ecx, 2000
    0xff, 0xc9, // wait: dec ecx
    0x75, 0xfc, // jnz wait
    0xfe, 0xc0, // inc al
    0x3c, 0x7b, // cmp al, 'z' + 1
    0x75, 0xf0, // jne print
    0xb0, b'a', // mov al, 'a'
    0xeb, 0xec, // jmp print
];

/// An ELF64 executable of one segment (System V ABI, chapter 4).
fn kernel() -> Vec<u8> {
    let header: [(u64, usize); 10] =
        [(2, 2), (62, 2), (1, 4), (LOAD_ADDRESS, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2)];
    let length = GUEST.len() as u64;
    let segment: [(u64, usize); 8] = [
        (1, 4),
        (7, 4),
        (120, 8),
        (LOAD_ADDRESS, 8),
        (LOAD_ADDRESS, 8),
        (length, 8),
        (length, 8),
        (0x1000, 8),
    ];
    let fields = |fields: &[(u64, usize)]| -> Vec<u8> {
        fields.iter().flat_map(|(value, bytes)| value.to_le_bytes()[..*bytes].to_vec()).collect()
    };
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(fields(&header));
    file.resize(64, 0);
    file.extend(fields(&segment));
    file.extend(GUEST);
    file
}

/// Whether this host can run these tests; if not, says so.
fn has_kvm(test: &str) -> bool {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => {
            eprintln!("accelerator: kvm, for bare guests");
            true
        }
        Err(error) => {
            eprintln!("skipped: {test}: /dev/kvm: {error}");
            false
        }
    }
}

/// A `berth-vmm` with its state directory.
struct Machine {
    process: Child,
    directory: TempDir,
}

impl Machine {
    fn boot() -> Self {
        Self::start(Accelerator::Kvm, None, vec![])
    }

    fn restore(snapshot: &Path, paused: bool) -> Self {
        let restore = RestoreConfig { directory: snapshot.to_owned(), paused };
        Self::start(Accelerator::Kvm, Some(restore), vec![])
    }

    fn start(accelerator: Accelerator, restore: Option<RestoreConfig>, host_cpuid: Vec<CpuidLeaf>) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name| directory.path().join(name);
        std::fs::write(path("kernel"), kernel()).unwrap();
        let config = MachineConfig {
            id: "snapshots".to_owned(),
            accelerator,
            vcpus: 1,
            memory_mib: 64,
            kernel: path("kernel"),
            initramfs: None,
            command_line: String::new(),
            disks: vec![],
            network_cards: vec![],
            balloon: None,
            shares: vec![],
            guest_cid: 3,
            console_limit_bytes: 1 << 20,
            host_cpuid,
            restore,
            qemu: "qemu-system-x86_64".into(),
        };
        std::fs::write(path(files::CONFIG), serde_json::to_vec(&config).unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-vmm"));
        command.arg("--state-dir").arg(directory.path());
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ask(&self, request: &Request) -> Reply {
        let mut stream =
            eventually("a control socket", || UnixStream::connect(self.path(files::CONTROL)).ok());
        stream.write_all(&[serde_json::to_vec(request).unwrap(), vec![b'\n']].concat()).unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(self.path(files::CONSOLE)).unwrap_or_default()
    }

    /// The first letters that it prints.
    fn letters(&self) -> String {
        eventually("letters", || self.printed().get(..30).map(str::to_owned))
    }

    /// Why it did not start.
    fn failure(mut self) -> String {
        self.process.wait().unwrap();
        let exit = std::fs::read(self.path(files::EXIT)).unwrap();
        match serde_json::from_slice(&exit).unwrap() {
            MachineExit::Failed { message } => message,
            other => panic!("{other:?} is no failure"),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A snapshot of a machine that went on afterwards.
fn snapshot(outer: &TempDir) -> PathBuf {
    let path = outer.path().join("snapshot");
    let save = Request::SaveSnapshot { directory: path.clone(), track_changes: false };
    let machine = Machine::boot();
    machine.letters();
    let Reply::SnapshotSaved(report) = machine.ask(&save) else { panic!("no snapshot") };
    assert!(!report.is_incremental && report.memory_bytes_written < 1 << 20, "{report:?}");
    let before = machine.printed().len();
    eventually("it goes on", || (machine.printed().len() > before).then_some(()));
    let Reply::Error { message } = machine.ask(&save) else { panic!("saved twice") };
    assert!(message.contains("holds a snapshot already"), "{message}");
    path
}

#[test]
fn machines_from_one_snapshot_begin_alike_when_they_are_let_go() {
    if !has_kvm("machines_from_one_snapshot_begin_alike_when_they_are_let_go") {
        return;
    }
    let outer = TempDir::new().unwrap();
    let path = snapshot(&outer);
    let (first, second) = (Machine::restore(&path, false), Machine::restore(&path, true));
    let Reply::Status(status) = second.ask(&Request::Status) else { panic!("no status") };
    assert_eq!(status.state, RunState::Paused);
    let letters = first.letters();
    assert_eq!(second.printed(), "");
    assert_eq!(second.ask(&Request::Resume), Reply::Done);
    assert_eq!(second.letters(), letters);
    // Both, and a third one after them, go on from the working set that one of them recorded.
    assert!(matches!(first.ask(&Request::RecordWorkingSet), Reply::WorkingSetRecorded { .. }));
    assert_eq!(Machine::restore(&path, false).letters(), letters);
}

#[test]
fn what_is_no_whole_snapshot_is_refused_by_name() {
    if !has_kvm("what_is_no_whole_snapshot_is_refused_by_name") {
        return;
    }
    let outer = TempDir::new().unwrap();
    let path = snapshot(&outer);
    let state = std::fs::read(path.join("snapshot")).unwrap();
    let mut damaged = state.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(path.join("snapshot"), damaged).unwrap();
    assert!(Machine::restore(&path, false).failure().contains("/snapshot is damaged"), "a flipped bit");
    std::fs::write(path.join("snapshot"), &state[..100]).unwrap();
    assert!(Machine::restore(&path, false).failure().contains("/snapshot is damaged"), "a truncated file");
    std::fs::write(path.join("snapshot"), &state).unwrap();
    let memory = OpenOptions::new().write(true).open(path.join("memory")).unwrap();
    memory.set_len(memory.metadata().unwrap().len() - 1).unwrap();
    let message = Machine::restore(&path, false).failure();
    assert!(message.contains("/memory: ") && message.contains("truncated"), "{message}");
    std::fs::remove_file(path.join("memory")).unwrap();
    assert!(Machine::restore(&path, false).failure().contains("/memory is missing"));
}

#[test]
fn what_kvm_offers_is_taken_from_the_configuration_where_it_says() {
    if !has_kvm("what_kvm_offers_is_taken_from_the_configuration_where_it_says") {
        return;
    }
    let asked = Command::new(env!("CARGO_BIN_EXE_berth-vmm")).arg("--host-cpuid").output().unwrap();
    let leaves: Vec<CpuidLeaf> = serde_json::from_slice(&asked.stdout).unwrap();
    let outer = TempDir::new().unwrap();
    let restore = RestoreConfig { directory: snapshot(&outer), paused: false };
    let start = |leaves| Machine::start(Accelerator::Kvm, Some(restore.clone()), leaves);
    assert!(!start(leaves.clone()).letters().is_empty());
    // A host whose processors have no time stamp counter would not do for this snapshot.
    const FEATURES: u32 = 1;
    const EDX_TIME_STAMP_COUNTER: u32 = 1 << 4;
    let without = |mut leaf: CpuidLeaf| {
        leaf[6] &= if leaf[0] == FEATURES { !EDX_TIME_STAMP_COUNTER } else { u32::MAX };
        leaf
    };
    let message = start(leaves.into_iter().map(without).collect()).failure();
    assert!(message.contains("CPUID leaf 0x1"), "{message}");
}

#[test]
fn tcg_says_that_it_has_no_snapshots() {
    let outer = TempDir::new().unwrap();
    for name in ["snapshot", "memory"] {
        std::fs::write(outer.path().join(name), "").unwrap();
    }
    let restore = RestoreConfig { directory: outer.path().to_owned(), paused: false };
    let message = Machine::start(Accelerator::Tcg, Some(restore), vec![]).failure();
    assert!(message.contains("snapshots under --accelerator kvm only"), "{message}");
}
