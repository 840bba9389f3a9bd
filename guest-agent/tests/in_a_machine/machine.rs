//! A machine for one test: `berth-vmm` on a temporary state directory, gone when the test is.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_protocol::agent::Ready;
use berth_protocol::ports::READY_PORT;

use crate::client::{self, Client};
use crate::disks;

/// Generous: a loaded host boots many machines at once.
const BOOT_DEADLINE: Duration = Duration::from_secs(90);
/// Scratch disks per machine; every container of a test takes one.
const SCRATCH_DISKS: usize = 3;
const MEMORY_MIB: u32 = 256;

/// What the tests are given from outside.
struct Programs {
    kernel: PathBuf,
    vmm: PathBuf,
    initramfs: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, String> {
        let variable =
            |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or(format!("{name} is not set"));
        Ok(Self {
            kernel: variable("BERTH_TEST_KERNEL")?,
            vmm: variable("BERTH_TEST_BIN_DIR")?.join("berth-vmm"),
            initramfs: variable("BERTH_TEST_INITRAMFS")?,
        })
    }
}

/// A running machine with an agent that has reported itself.
pub(crate) struct Machine {
    pub(crate) ready: Ready,
    state: tempfile::TempDir,
    vmm: Child,
}

impl Machine {
    /// Boots, or says that the test is skipped and why.
    pub(crate) fn boot(test: &str) -> Option<Self> {
        Self::boot_with(test, disks::describe)
    }

    /// The same, before it is known what its disks hold: [`Machine::bind_disks`] says that.
    pub(crate) fn boot_unbound(test: &str) -> Option<Self> {
        Self::boot_with(test, disks::describe_unbound)
    }

    fn boot_with(test: &str, describe: fn(&Path, &str) -> String) -> Option<Self> {
        let programs = match Programs::find() {
            Ok(programs) => programs,
            Err(missing) => {
                eprintln!("skipped: {test}: {missing}");
                return None;
            }
        };
        eprintln!("accelerator: tcg");
        let state = tempfile::tempdir().unwrap();
        let configuration = configuration(&programs, state.path(), describe);
        std::fs::write(state.path().join("machine.json"), configuration).unwrap();
        let ready = UnixListener::bind(state.path().join(format!("vsock.sock_{READY_PORT}"))).unwrap();
        let vmm = Command::new(&programs.vmm)
            .arg("--state-dir")
            .arg(state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let vmm = vmm.unwrap_or_else(|error| panic!("{}: {error}", programs.vmm.display()));
        let mut machine = Self { ready: Ready::default(), state, vmm };
        machine.ready = machine.wait_until_ready(&ready);
        Some(machine)
    }

    /// A connection of its own for requests.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.path("vsock.sock"))
    }

    /// Binds the first two disks of a machine that was booted without.
    pub(crate) fn bind_disks(&self) {
        let control = UnixStream::connect(self.path("control.sock")).unwrap();
        let mut replies = BufReader::new(&control);
        for (disk, file) in [disks::busybox(), self.path("scratch-0.ext4")].iter().enumerate() {
            let extents = disks::extents(file);
            let request =
                format!("{{\"request\": \"bind_disk\", \"disk\": {disk}, \"extents\": {extents}}}\n");
            (&control).write_all(request.replace('\n', " ").as_bytes()).unwrap();
            (&control).write_all(b"\n").unwrap();
            let mut reply = String::new();
            replies.read_line(&mut reply).unwrap();
            assert!(reply.contains("done"), "{reply}");
        }
    }

    /// Whether the machine has ended by itself within the time.
    pub(crate) fn ends_within(&mut self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            if self.vmm.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    fn wait_until_ready(&mut self, listener: &UnixListener) -> Ready {
        listener.set_nonblocking(true).unwrap();
        let end = Instant::now() + BOOT_DEADLINE;
        loop {
            if let Ok((mut connection, _)) = listener.accept() {
                connection.set_nonblocking(false).unwrap();
                return client::read_frame(&mut connection).expect("the agent says that it is ready");
            }
            let ended = self.vmm.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "no agent ({ended:?}):\n{}", self.evidence());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn evidence(&self) -> String {
        let read = |name| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("{}\n{}", read("console.log"), read("exit.json"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the machine's last words:\n{}", self.evidence());
        }
        // It may have ended by itself; what it leaves behind goes with the state directory.
        let _ended = self.vmm.kill();
        let _status = self.vmm.wait();
    }
}

fn configuration(programs: &Programs, state: &Path, describe: fn(&Path, &str) -> String) -> String {
    let mut all_disks = vec![describe(&disks::busybox(), "read_only")];
    for number in 0..SCRATCH_DISKS {
        all_disks.push(describe(&disks::scratch(state, number), "read_write"));
    }
    format!(
        r#"{{"id": "test", "accelerator": "tcg", "vcpus": 1, "memory_mib": {MEMORY_MIB}, "kernel": {:?},
            "initramfs": {:?}, "command_line": "", "disks": [{}], "guest_cid": 3,
            "console_limit_bytes": 1048576, "qemu": "qemu-system-x86_64"}}"#,
        programs.kernel.display().to_string(),
        programs.initramfs.display().to_string(),
        all_disks.join(","),
    )
}

/// Everything a connection still gives.
pub(crate) fn read_all(mut connection: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    bytes
}
