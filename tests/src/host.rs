//! A container host of a test's own: a daemon below a temporary directory, with the demo images.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::api::Api;
use crate::client::Client;
use crate::environment::{Environment, program, skip};
use crate::namespace::Namespace;
use crate::patience::{DEADLINE, eventually};
use crate::processes::{pid_of, processes_that_name};

/// A running daemon and its world.
#[derive(Debug)]
pub struct Host {
    root: tempfile::TempDir,
    environment: Environment,
    /// Flags of the daemon's beyond those that every host has.
    flags: Vec<String>,
    /// The name of the network namespace that the daemon lives in, if not in ours.
    namespace: Option<String>,
    /// The daemon has this user's rights and no others.
    user: Option<u32>,
    daemon: Option<Child>,
}

/// A machine that boots in bearable time where its kernel is interpreted.
const SMALL_ON_KVM: &[&str] =
    &["--accelerator", "kvm", "--machine-memory", "128m", "--machine-cpus", "1", "--scratch-size", "1g"];

const USER_MODE: &[&str] = &["--bridge", "berth0", "--network-backend", "user"];

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// Boots no further than the kernel's search for a first process.
const NO_INITRAMFS: &[u8] = b"this is no archive";

impl Host {
    /// Starts a daemon and loads the demo images. `None`, said aloud, if this machine lacks what that needs.
    ///
    /// # Panics
    /// If the daemon does not start although it could.
    #[must_use]
    pub fn start() -> Option<Self> {
        let host = Self::empty()?;
        for image in ["hello-world", "busybox"] {
            host.berth().run(["load", "--quiet", "--input", &host.image_archive(image)]).exits_with(0);
        }
        Some(host)
    }

    /// A daemon whose machines are small and run on `/dev/kvm`, whatever kind of KVM that is, with the image busybox; in
    /// that network, which is theirs in user mode where it can be. `None`, said aloud, where there is none.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn on_kvm(namespace: Option<&Namespace>) -> Option<Self> {
        if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
            skip(&format!("/dev/kvm: {error}"));
            return None;
        }
        let flags = match namespace {
            Some(_) if program("passt").is_some() => [SMALL_ON_KVM, USER_MODE].concat(),
            _ => {
                skip("networks in user mode on kvm take a namespace and passt");
                SMALL_ON_KVM.to_vec()
            }
        };
        let host = Self::with_daemon(&flags, namespace)?;
        eprintln!("accelerator: kvm, for one whole story");
        host.berth().run(["load", "--quiet", "--input", &host.image_archive("busybox")]).exits_with(0);
        Some(host)
    }

    /// As [`Host::start`], without images.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn empty() -> Option<Self> {
        Self::with_flags(&[])
    }

    /// As [`Host::empty`], with these flags of the daemon's beside its own.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn with_flags(flags: &[&str]) -> Option<Self> {
        if program("qemu-system-x86_64").is_none() {
            skip("qemu-system-x86_64 is not installed, and this host's KVM is not relied on");
            return None;
        }
        Self::with_daemon(flags, None)
    }

    /// A daemon in that network, with these flags beside its own.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn inside(namespace: &Namespace, flags: &[&str]) -> Option<Self> {
        Self::with_daemon(flags, Some(namespace))
    }

    /// A daemon in that network that an ordinary user started, with the image busybox.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn of_a_user(namespace: &Namespace) -> Option<Self> {
        if let Some(missing) =
            ["passt", "setpriv", "qemu-system-x86_64"].iter().find(|name| program(name).is_none())
        {
            skip(&format!("a daemon without privilege needs {missing} here"));
            return None;
        }
        let mut host = Self::without_daemon(&["--bridge", "berth0"], Some(namespace))?;
        host.environment = host.environment.copy_for_others(&host.path("programs"));
        for directory in [host.root.path(), &host.path("home")] {
            std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY)).expect("we are root");
        }
        host.user = Some(NOBODY);
        host.start_daemon();
        host.berth().run(["load", "--quiet", "--input", &host.image_archive("busybox")]).exits_with(0);
        Some(host)
    }

    /// A daemon in that network, with networks of its own there and the image busybox.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn with_networks(namespace: &Namespace) -> Option<Self> {
        if program("nft").is_none() {
            skip("networks need nft");
            return None;
        }
        let host = Self::inside(namespace, &["--bridge", "berth0"])?;
        host.berth().run(["load", "--quiet", "--input", &host.image_archive("busybox")]).exits_with(0);
        Some(host)
    }

    fn with_daemon(flags: &[&str], namespace: Option<&Namespace>) -> Option<Self> {
        let mut host = Self::without_daemon(flags, namespace)?;
        host.start_daemon();
        Some(host)
    }

    fn without_daemon(flags: &[&str], namespace: Option<&Namespace>) -> Option<Self> {
        let environment = match Environment::from_variables() {
            Ok(environment) => environment,
            Err(reason) => {
                skip(&reason);
                return None;
            }
        };
        // Short, because it holds unix sockets.
        let root =
            tempfile::Builder::new().prefix("berth-").tempdir().expect("a temporary directory can be made");
        fs::create_dir(root.path().join("home")).expect("a directory can be made");
        Some(Self {
            root,
            environment,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            namespace: namespace.map(|namespace| namespace.name().to_owned()),
            user: None,
            daemon: None,
        })
    }

    /// As [`Host::start`], but every guest's kernel panics when it looks for its first process.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn whose_guests_panic() -> Option<Self> {
        let mut host = Self::start()?;
        host.stop_daemon();
        host.environment.initramfs = host.path("initramfs");
        fs::write(&host.environment.initramfs, NO_INITRAMFS).expect("a file can be written");
        host.start_daemon();
        Some(host)
    }

    /// What the next daemon of this host is told beside what every host's is.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// # Panics
    /// If the daemon does not listen.
    pub fn start_daemon(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("berthd.log"))
            .expect("a log can be made");
        let berthd = self.environment.binary("berthd");
        let program = if self.user.is_some() { Path::new("setpriv") } else { &berthd };
        let mut command = match &self.namespace {
            Some(namespace) => Namespace::enter(namespace, program),
            None => Command::new(program),
        };
        if let Some(user) = self.user {
            command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
            command.arg(&berthd);
        }
        let mut daemon = command
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("run"))
            .arg("--pidfile")
            .arg(self.path("berthd.pid"))
            .args(["--host", &self.address()])
            .arg("--kernel")
            .arg(&self.environment.kernel)
            .arg("--initramfs")
            .arg(&self.environment.initramfs)
            .args(self.network_flags())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("berthd can be started");
        let socket = self.path("berthd.sock");
        eventually("berthd listens", || {
            let ended = daemon.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "berthd ended: {}", self.daemon_log());
            UnixStream::connect(&socket).is_ok()
        });
        self.daemon = Some(daemon);
    }

    /// The networks of the host that the tests run on are not theirs to change: a test that is about networks says so, and
    /// has a namespace.
    fn network_flags(&self) -> &'static [&'static str] {
        let says_which = self.flags.iter().any(|flag| flag.starts_with("--bridge"));
        if says_which { &[] } else { &["--bridge", "none"] }
    }

    /// Ends the daemon in good order.
    ///
    /// # Panics
    /// If it does not end with 0.
    pub fn stop_daemon(&mut self) {
        let status = self.end_daemon(Signal::TERM).expect("the daemon runs");
        assert!(status.success(), "berthd ended with {status}: {}", self.daemon_log());
    }

    /// Ends the daemon between any two of its steps.
    pub fn kill_daemon(&mut self) {
        self.end_daemon(Signal::KILL);
    }

    fn end_daemon(&mut self, signal: Signal) -> Option<std::process::ExitStatus> {
        let mut daemon = self.daemon.take()?;
        kill_process(pid_of(daemon.id()), signal).expect("the daemon is our child");
        Some(daemon.wait().expect("a child can be waited for"))
    }

    /// Both kinds of clients: what the tests demand of Berth, they demand through either.
    #[must_use]
    pub fn clients(&self) -> Vec<Client> {
        self.docker().into_iter().chain([self.berth()]).collect()
    }

    /// The socket that clients talk to, for whoever is no client.
    #[must_use]
    pub fn api(&self) -> Api {
        Api { socket: self.path("berthd.sock") }
    }

    /// Our own client.
    #[must_use]
    pub fn berth(&self) -> Client {
        self.client("berth", self.environment.binary("berth"))
    }

    /// The `docker` CLI; `None`, said aloud, where there is none.
    #[must_use]
    pub fn docker(&self) -> Option<Client> {
        let found = program("docker").map(|program| self.client("docker", program));
        if found.is_none() {
            skip("with the docker CLI: docker is not installed");
        }
        found
    }

    fn client(&self, name: &'static str, program: PathBuf) -> Client {
        Client { name, program, host: self.address(), home: self.path("home") }
    }

    fn address(&self) -> String {
        format!("unix://{}", self.path("berthd.sock").display())
    }

    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// The path of a demo image's archive.
    #[must_use]
    pub fn image_archive(&self, name: &str) -> String {
        self.environment.image(name).to_string_lossy().into_owned()
    }

    /// The same for an image that not every machine can make; `None`, said aloud, where it was not.
    #[must_use]
    pub fn large_image_archive(&self, name: &str) -> Option<String> {
        let archive = self.image_archive(name);
        if !Path::new(&archive).exists() {
            skip(&format!("there is no image {name}: `cargo xtask images` says why"));
            return None;
        }
        Some(archive)
    }

    /// Demands that everything in the store is what its digest says, and that nothing unfinished is there.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn has_a_sound_store(&self) {
        self.berth().run(["system", "check"]).exits_with(0);
    }

    /// What the daemon said so far.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.path("berthd.log")).unwrap_or_default()
    }

    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// How many files and sockets the daemon has open.
    #[must_use]
    pub fn daemon_descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.daemon_pid())).map_or(0, Iterator::count)
    }

    /// Leaves the daemon, and what it starts from now on, that many.
    ///
    /// # Panics
    /// If the host does not allow it.
    pub fn limit_descriptors(&self, most: u64) {
        let daemon = i32::try_from(self.daemon_pid()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(daemon, Resource::Nofile, limit).expect("less is always allowed");
    }

    /// What of its memory is the daemon's alone.
    #[must_use]
    pub fn daemon_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon_pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
    }

    /// Stops every process of the machines, as a host that hangs would, or lets them go on.
    ///
    /// # Panics
    /// If there is none.
    pub fn freeze_machines(&self, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        let processes = self.machine_processes();
        assert!(!processes.is_empty(), "no machine runs");
        for (pid, _program) in processes {
            kill_process(pid_of(pid), signal).expect("the machine's process is ours");
        }
    }

    /// The processes of this host's machines, by the names of their programs.
    #[must_use]
    pub fn machine_processes(&self) -> Vec<(u32, String)> {
        processes_that_name(self.root.path())
            .into_iter()
            .filter(|(_pid, program)| program != "berthd")
            .collect()
    }

    /// Kills the `berth-vmm` of the only machine.
    ///
    /// # Panics
    /// If there is not exactly one.
    pub fn kill_the_machine(&self) {
        let processes = self.machine_processes();
        let monitors: Vec<_> = processes.iter().filter(|(_pid, program)| program == "berth-vmm").collect();
        let [(pid, _)] = monitors[..] else { panic!("not one machine: {processes:?}") };
        kill_process(pid_of(*pid), Signal::KILL).expect("the machine's process is ours");
    }

    /// Kills the `berth-vmm` of this container's machine.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill_the_machine_of(&self, container: &str) {
        let machine =
            fs::read_dir(self.path("run/machines")).expect("the daemon runs").flatten().find(|entry| {
                let name = entry.file_name();
                name.to_str().is_some_and(|name| !name.is_empty() && container.starts_with(name))
            });
        let state = machine.unwrap_or_else(|| panic!("{container} has no machine")).path();
        let processes = processes_that_name(&state);
        let monitors: Vec<_> = processes.iter().filter(|(_pid, program)| program == "berth-vmm").collect();
        let [(pid, _)] = monitors[..] else { panic!("not one monitor of {container}: {processes:?}") };
        kill_process(pid_of(*pid), Signal::KILL).expect("the machine's process is ours");
    }

    /// Kills one of the [machines' processes](Self::machine_processes).
    ///
    /// # Panics
    /// If it is none.
    pub fn kill(&self, pid: u32) {
        assert!(self.machine_processes().iter().any(|(known, _)| *known == pid), "{pid} is no machine's");
        kill_process(pid_of(pid), Signal::KILL).expect("the machine's process is ours");
    }

    /// Asks the monitor of the only machine, over its control socket.
    ///
    /// # Panics
    /// If there is not exactly one, or it does not answer in JSON.
    #[must_use]
    pub fn ask_the_machine(&self, request: &str) -> serde_json::Value {
        let mut machines = fs::read_dir(self.path("run/machines")).expect("the daemon runs").flatten();
        let (Some(machine), None) = (machines.next(), machines.next()) else { panic!("not one machine") };
        let socket = UnixStream::connect(machine.path().join("control.sock")).expect("a monitor listens");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline that is not zero");
        writeln!(&socket, "{{\"request\": \"{request}\"}}").expect("a monitor reads requests");
        let mut reply = String::new();
        BufReader::new(&socket).read_line(&mut reply).expect("a monitor answers");
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error} in {reply:?}"))
    }

    /// What all machines together take of the host's memory: the sum of their processes' proportional shares.
    #[must_use]
    pub fn machine_memory_mib(&self) -> u64 {
        let share_kib = |pid: u32| -> Option<u64> {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            pss.trim().trim_end_matches(" kB").trim().parse().ok()
        };
        let shares = self.machine_processes().into_iter().filter_map(|(pid, _program)| share_kib(pid));
        shares.sum::<u64>() / 1024
    }

    /// Waits until no machine and nothing of one is left.
    ///
    /// # Panics
    /// If something is left after a long time.
    pub fn has_nothing_left_of_machines(&self) {
        let state = self.path("run/machines");
        eventually("machines' processes end", || self.machine_processes().is_empty());
        eventually("machines' directories go", || {
            fs::read_dir(&state).is_ok_and(|mut entries| entries.next().is_none())
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the daemon said:\n{}", self.daemon_log());
        }
        if self.daemon.is_none() {
            self.start_daemon();
        }
        let containers = self.berth().run(["ps", "--all", "--quiet"]).text();
        if !containers.is_empty() {
            self.berth().run(["rm", "--force"].into_iter().chain(containers.split_whitespace()));
        }
        if !std::thread::panicking() {
            self.has_nothing_left_of_machines();
            self.stop_daemon();
            assert!(!self.path("berthd.sock").exists(), "the socket is left");
            assert!(!self.path("berthd.pid").exists(), "the pid file is left");
        }
        self.end_daemon(Signal::KILL);
        for (pid, _program) in self.machine_processes() {
            let _ended = kill_process(pid_of(pid), Signal::KILL);
        }
    }
}
