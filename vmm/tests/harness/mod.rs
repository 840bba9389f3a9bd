//! Machines for tests: the real `berth-vmm` on a real QEMU, with a kernel from `BERTH_TEST_KERNEL` and our own init.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use berth_vmm::config::{Accelerator, DiskAccess, DiskConfig, Extent, MachineConfig, files};
use berth_vmm::control::{MachineExit, Reply, Request};
use tempfile::{NamedTempFile, TempDir};

/// Longer than anything takes on a loaded host.
const PATIENCE: Duration = Duration::from_secs(120);
const COMMAND_PORT: u32 = 1024;
const READY_PORT: u32 = 1023;

/// The kernel to boot; without one, or without QEMU, the test says that it is skipped.
pub(crate) fn kernel_or_skip(test: &str) -> Option<PathBuf> {
    let qemu = Command::new("qemu-system-x86_64").arg("--version").output();
    let reason = match (std::env::var_os("BERTH_TEST_KERNEL"), qemu) {
        (Some(kernel), Ok(_)) => {
            eprintln!("accelerator: tcg");
            return Some(kernel.into());
        }
        (None, _) => "BERTH_TEST_KERNEL names no kernel".to_owned(),
        (_, Err(e)) => format!("qemu-system-x86_64: {e}"),
    };
    eprintln!("skipped: {test}: {reason}");
    None
}

/// As [`kernel_or_skip`], for machines on `/dev/kvm`.
pub(crate) fn kvm_kernel_or_skip(test: &str) -> Option<PathBuf> {
    let reason = match (std::env::var_os("BERTH_TEST_KERNEL"), File::open("/dev/kvm")) {
        (Some(kernel), Ok(_)) => {
            eprintln!("accelerator: kvm");
            return Some(kernel.into());
        }
        (None, _) => "BERTH_TEST_KERNEL names no kernel".to_owned(),
        (_, Err(error)) => format!("/dev/kvm: {error}"),
    };
    eprintln!("skipped: {test}: {reason}");
    None
}

/// A configuration to start from: one processor, 128 MiB, no disks.
pub(crate) fn config(kernel: &Path) -> MachineConfig {
    MachineConfig {
        id: "test".into(),
        accelerator: Accelerator::Tcg,
        vcpus: 1,
        memory_mib: 128,
        kernel: kernel.into(),
        initramfs: Some(initramfs().into()),
        command_line: String::new(),
        disks: vec![],
        network_cards: vec![],
        balloon: None,
        shares: vec![],
        guest_cid: 3,
        console_limit_bytes: 64 << 10,
        host_cpuid: vec![],
        restore: None,
        qemu: "qemu-system-x86_64".into(),
    }
}

/// The same machine with these disks.
pub(crate) fn with_disks(config: MachineConfig, disks: Vec<DiskConfig>) -> MachineConfig {
    MachineConfig { disks, ..config }
}

/// A disk on the whole of a file.
pub(crate) fn disk(file: &NamedTempFile, access: DiskAccess) -> DiskConfig {
    let extent = whole(file);
    DiskConfig { capacity_bytes: extent.length_bytes, access, extents: vec![extent] }
}

/// The whole of a file.
pub(crate) fn whole(file: &NamedTempFile) -> Extent {
    let length_bytes = file.as_file().metadata().unwrap().len();
    Extent { path: file.path().into(), offset_bytes: 0, length_bytes }
}

/// Waits for something that must come to pass; fails with its name if it does not.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A `berth-vmm` and its state directory. Whatever still runs when it is dropped is killed.
pub(crate) struct Machine {
    directory: TempDir,
    process: Child,
    ready: UnixListener,
}

impl Machine {
    /// Starts `berth-vmm`; returns once its control socket takes connections, or it has ended.
    pub(crate) fn start(config: &MachineConfig) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join(files::CONFIG), serde_json::to_vec(config).unwrap()).unwrap();
        let ready =
            UnixListener::bind(directory.path().join(format!("{}_{READY_PORT}", files::VSOCK))).unwrap();
        let mut process = spawn(directory.path());
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.is_empty() || line == "listening\n", "{line:?}");
        Self { directory, process, ready }
    }

    /// Starts a machine, and waits until its init says that it takes commands.
    pub(crate) fn boot(config: &MachineConfig) -> Self {
        let mut machine = Self::start(config);
        machine.ready.set_nonblocking(true).unwrap();
        let mut word = [0; 5];
        eventually("the guest is ready", || {
            assert!(machine.process.try_wait().unwrap().is_none(), "{:?}", machine.exit());
            let Ok((mut stream, _)) = machine.ready.accept() else { return false };
            stream.set_nonblocking(false).unwrap();
            stream.read_exact(&mut word).unwrap();
            true
        });
        assert_eq!(&word, b"ready");
        machine
    }

    /// Another `berth-vmm` on the same directory: its exit status, and what it said.
    pub(crate) fn start_again(&self) -> (ExitStatus, String) {
        let output = spawn(self.directory.path()).wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// QEMU's pid.
    pub(crate) fn qemu(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        std::fs::read_to_string(children).unwrap().trim().parse().expect("one child")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn console(&self) -> String {
        std::fs::read_to_string(self.file(files::CONSOLE)).unwrap()
    }

    /// One request on a control connection of its own.
    pub(crate) fn control(&self, request: &Request) -> Reply {
        let mut stream = UnixStream::connect(self.file(files::CONTROL)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{}\n", serde_json::to_string(request).unwrap()).as_bytes()).unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    /// A connection to a port of the guest; `None` if the guest refuses it.
    pub(crate) fn connect(&self, port: u32) -> Option<UnixStream> {
        let mut stream = UnixStream::connect(self.file(files::VSOCK)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            answer.extend(byte);
        }
        answer.starts_with(b"OK ").then_some(stream)
    }

    /// A connection on which the guest's init was given a command.
    pub(crate) fn command(&self, line: &str) -> UnixStream {
        let mut stream = self.connect(COMMAND_PORT).expect("init listens");
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        stream
    }

    /// Gives a command and all the input it reads; gives back everything it answers.
    pub(crate) fn ask(&self, line: &str, input: &[u8]) -> Vec<u8> {
        let mut stream = self.command(line);
        let mut output = Vec::new();
        std::thread::scope(|scope| {
            let mut writer = stream.try_clone().unwrap();
            scope.spawn(move || {
                writer.write_all(input).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            stream.read_to_end(&mut output).unwrap();
        });
        output
    }

    /// Waits for `berth-vmm` to end; gives what it says about the machine's end.
    pub(crate) fn exit(&mut self) -> MachineExit {
        eventually("berth-vmm ends", || self.process.try_wait().unwrap().is_some());
        serde_json::from_slice(&std::fs::read(self.file(files::EXIT)).unwrap()).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn spawn(state_dir: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth-vmm"));
    command.arg("--state-dir").arg(state_dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// An initramfs with `guest/init.rs`, built once for all tests.
fn initramfs() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let directory = TempDir::new().unwrap();
        let init = directory.path().join("init");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/init.rs");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args([
            "--edition",
            "2024",
            "-Dunsafe_code",
            "-Copt-level=s",
            "-Cpanic=abort",
            "-Cstrip=symbols",
        ]);
        rustc.args(["-Ctarget-feature=+crt-static", "--crate-name", "init", "-o"]).arg(&init).arg(source);
        assert!(rustc.status().unwrap().success());
        let path = directory.path().join("initramfs.cpio");
        std::fs::write(&path, archive(&std::fs::read(init).unwrap())).unwrap();
        (directory, path)
    });
    path
}

/// A cpio archive with `/dev` and `/init`, in the kernel's "newc" format.
fn archive(init: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode, bytes) in [("dev", 0o40_755, &[][..]), ("init", 0o100_755, init), ("TRAILER!!!", 0, &[])]
    {
        let fields = [archive.len(), mode, 0, 0, 1, 0, bytes.len(), 0, 0, 0, 0, name.len() + 1, 0];
        archive.extend(b"070701");
        fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
        archive.extend(name.bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(bytes);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}
