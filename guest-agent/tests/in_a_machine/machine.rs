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

/// Generous: a loaded host boots many machines at once, and some on software KVM.
const BOOT_DEADLINE: Duration = Duration::from_mins(10);
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

/// What tests ask a machine to be.
struct Plan<'a> {
    accelerator: &'a str,
    memory_mib: u32,
    guest_cid: u32,
    describe: fn(&Path, &str) -> String,
    /// The directory of a snapshot to go on from.
    restore: Option<&'a Path>,
    /// The socket on which the machine's shares are served.
    shares: Option<&'a Path>,
}

/// Small, because software KVM initialises every page by interpreting it.
const ON_KVM: Plan<'_> = Plan { accelerator: "kvm", memory_mib: 128, ..ORDINARY };

const ORDINARY: Plan<'_> = Plan {
    accelerator: "tcg",
    memory_mib: MEMORY_MIB,
    guest_cid: 3,
    describe: disks::describe,
    restore: None,
    shares: None,
};

impl Machine {
    /// Boots, or says that the test is skipped and why.
    pub(crate) fn boot(test: &str) -> Option<Self> {
        Self::boot_as(test, &ORDINARY)
    }

    /// The same, before it is known what its disks hold: [`Machine::bind_disks`] says that.
    pub(crate) fn boot_unbound(test: &str) -> Option<Self> {
        Self::boot_as(test, &Plan { describe: disks::describe_unbound, ..ORDINARY })
    }

    /// The same, with shares.
    pub(crate) fn boot_with_shares(test: &str, socket: &Path) -> Option<Self> {
        Self::boot_as(test, &Plan { shares: Some(socket), ..ORDINARY })
    }

    /// A small machine on `/dev/kvm`, with unbound disks: something to make snapshots of.
    pub(crate) fn boot_on_kvm(test: &str) -> Option<Self> {
        if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/kvm") {
            eprintln!("skipped: {test}: /dev/kvm: {error}");
            return None;
        }
        Self::boot_as(test, &Plan { describe: disks::describe_unbound, ..ON_KVM })
    }

    fn boot_as(test: &str, plan: &Plan<'_>) -> Option<Self> {
        let programs = match Programs::find() {
            Ok(programs) => programs,
            Err(missing) => {
                eprintln!("skipped: {test}: {missing}");
                return None;
            }
        };
        eprintln!("accelerator: {}", plan.accelerator);
        let state = tempfile::tempdir().unwrap();
        let ready = UnixListener::bind(state.path().join(format!("vsock.sock_{READY_PORT}"))).unwrap();
        let mut machine = Self::start(&programs, state, plan);
        machine.ready = machine.wait_until_ready(&ready);
        Some(machine)
    }

    /// Another life of a machine of [`Machine::boot_on_kvm`], from its snapshot, with disks of its own. Its agent says
    /// nothing by itself: it was ready already.
    pub(crate) fn restore(snapshot: &Path, guest_cid: u32) -> Self {
        let programs = Programs::find().expect("the snapshot's machine found them");
        let machine = Self::start(
            &programs,
            tempfile::tempdir().unwrap(),
            &Plan { guest_cid, restore: Some(snapshot), ..ON_KVM },
        );
        let end = Instant::now() + BOOT_DEADLINE;
        while !machine.path("control.sock").exists() {
            assert!(Instant::now() < end, "no monitor:\n{}", machine.evidence());
            std::thread::sleep(Duration::from_millis(2));
        }
        machine
    }

    fn start(programs: &Programs, state: tempfile::TempDir, plan: &Plan<'_>) -> Self {
        let configuration = configuration(programs, state.path(), plan);
        std::fs::write(state.path().join("machine.json"), configuration).unwrap();
        let vmm = Command::new(&programs.vmm)
            .arg("--state-dir")
            .arg(state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let vmm = vmm.unwrap_or_else(|error| panic!("{}: {error}", programs.vmm.display()));
        Self { ready: Ready::default(), state, vmm }
    }

    /// Saves the machine into a directory below that of its own state.
    pub(crate) fn save(&self) -> PathBuf {
        let directory = self.path("snapshot");
        let request =
            format!(r#"{{"request": "save_snapshot", "directory": {:?}}}"#, directory.display().to_string());
        let reply = self.control(&request);
        assert!(reply.contains("snapshot_saved"), "{reply}");
        directory
    }

    /// A connection of its own for requests.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.path("vsock.sock"))
    }

    /// Binds the first two disks of a machine that was booted without.
    pub(crate) fn bind_disks(&self) {
        for (disk, file) in [disks::busybox(), self.path("scratch-0.ext4")].iter().enumerate() {
            let extents = disks::extents(file);
            let request = format!(r#"{{"request": "bind_disk", "disk": {disk}, "extents": {extents}}}"#);
            let reply = self.control(&request);
            assert!(reply.contains("done"), "{reply}");
        }
    }

    /// Asks the monitor.
    fn control(&self, request: &str) -> String {
        let mut control = UnixStream::connect(self.path("control.sock")).unwrap();
        control.write_all(format!("{}\n", request.replace('\n', " ")).as_bytes()).unwrap();
        let mut reply = String::new();
        BufReader::new(control).read_line(&mut reply).unwrap();
        reply
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

fn configuration(programs: &Programs, state: &Path, plan: &Plan<'_>) -> String {
    let mut all_disks = vec![(plan.describe)(&disks::busybox(), "read_only")];
    for number in 0..SCRATCH_DISKS {
        all_disks.push((plan.describe)(&disks::scratch(state, number), "read_write"));
    }
    let text = |path: &Path| format!("{:?}", path.display().to_string());
    let restore =
        plan.restore.map(|directory| format!(r#""restore": {{"directory": {}}},"#, text(directory)));
    let share = |socket: &Path| format!(r#""shares": [{{"tag": "shares", "socket": {}}}],"#, text(socket));
    let shares = plan.shares.map(share);
    format!(
        r#"{{"id": "test", "accelerator": "{}", "vcpus": 1, "memory_mib": {}, "kernel": {}, "initramfs": {},
            "command_line": "", "disks": [{}], "guest_cid": {}, "console_limit_bytes": 1048576,
            {} {} "qemu": "qemu-system-x86_64"}}"#,
        plan.accelerator,
        plan.memory_mib,
        text(&programs.kernel),
        text(&programs.initramfs),
        all_disks.join(","),
        plan.guest_cid,
        restore.unwrap_or_default(),
        shares.unwrap_or_default(),
    )
}

/// Everything a connection still gives.
pub(crate) fn read_all(mut connection: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).unwrap();
    bytes
}
