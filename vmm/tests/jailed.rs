//! The real `berth-vmm` in its jail on `/dev/kvm`, looked at from outside, with the smallest guest there is.
#![expect(clippy::unwrap_used, reason = "tests state their expectations with it")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_vmm::config::{Accelerator, DiskAccess, DiskConfig, Extent, MachineConfig, RestoreConfig, files};
use berth_vmm::control::{MachineExit, Reply, Request, RunState};
use berth_vmm::handover::{self, Orders};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
/// Of nobody, here and elsewhere.
const USER: u32 = 0x7abc_0001;

/// Says `.` on its serial port, then waits for interrupts that never come.
const GUEST: &[u8] = &[
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, b'.', // mov al, '.'
    0xee, // out dx, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
];
const LOAD_ADDRESS: u64 = 1 << 20;

/// An ELF64 executable of one segment (System V ABI, chapter 4).
fn kernel() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for (value, bytes) in
        [(2, 2), (62, 2), (1, 4), (LOAD_ADDRESS, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2)]
    {
        file.extend(&value.to_le_bytes()[..bytes]);
    }
    file.resize(64, 0);
    let length = GUEST.len() as u64;
    for (value, bytes) in [
        (1, 4),
        (7, 4),
        (120, 8),
        (LOAD_ADDRESS, 8),
        (LOAD_ADDRESS, 8),
        (length, 8),
        (length, 8),
        (0x1000, 8),
    ] {
        file.extend(&value.to_le_bytes()[..bytes]);
    }
    file.extend(GUEST);
    file
}

/// Whether this host can run these tests; if not, says so.
fn possible(test: &str) -> bool {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let reason = match kvm {
        Err(error) => format!("/dev/kvm: {error}"),
        Ok(_) if !may_give_users() => "giving users and namespaces away takes root's rights".to_owned(),
        Ok(_) => {
            eprintln!("accelerator: kvm, for bare guests");
            return true;
        }
    };
    eprintln!("skipped: {test}: {reason}");
    false
}

fn may_give_users() -> bool {
    use rustix::thread::CapabilitySet;
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::thread::capabilities(None).is_ok_and(|own| own.effective.contains(needed))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A jailed `berth-vmm` with one disk that is bound and one that is not.
struct Jailed {
    directory: TempDir,
    process: Child,
}

impl Jailed {
    fn start() -> Self {
        Self::spawn(&["kernel", "disk"]).speaking()
    }

    /// Waits until it listens and its guest speaks.
    fn speaking(self) -> Self {
        let machine = self.listening();
        eventually("the guest speaks", || machine.console().contains('.'));
        machine
    }

    fn listening(mut self) -> Self {
        let mut line = String::new();
        BufReader::new(self.process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n", "{:?} {:?}", self.exit(), self.complaint());
        self
    }

    /// Hands over these files of the directory, and `/dev/kvm`.
    fn spawn(names: &[&str]) -> Self {
        Self::spawn_by(None, names)
    }

    /// The same by a daemon of that user, who may give no users away.
    fn spawn_by(daemon: Option<u32>, names: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let config = config(directory.path());
        Self::spawn_configured(daemon, directory, &config, names, &[])
    }

    /// The same with this configuration, and with files that are not the directory's.
    fn spawn_configured(
        daemon: Option<u32>,
        directory: TempDir,
        config: &MachineConfig,
        names: &[&str],
        others: &[PathBuf],
    ) -> Self {
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("kernel"), kernel()).unwrap();
        File::create(path("disk")).unwrap().set_len(1 << 20).unwrap();
        std::fs::create_dir(path(files::ROOT)).unwrap();
        std::fs::write(path(files::CONFIG), serde_json::to_vec(config).unwrap()).unwrap();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-vmm"));
        command.arg("--jail").arg("--state-dir").arg(directory.path());
        if let Some(daemon) = daemon {
            std::os::unix::fs::chown(directory.path(), Some(daemon), Some(daemon)).unwrap();
            command.uid(daemon).gid(daemon);
        }
        let process = command.stdin(theirs).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        let paths = names.iter().map(|name| path(name)).chain([PathBuf::from("/dev/kvm")]);
        let paths = paths.chain(others.iter().cloned());
        let opened: Vec<(PathBuf, OwnedFd)> = paths.map(|path| (path.clone(), open(&path))).collect();
        let lent: Vec<_> = opened.iter().map(|(path, file)| (path.as_path(), file.as_fd())).collect();
        let user = if daemon.is_none() { Some(USER) } else { None };
        handover::send(&ours, &lent, &Orders { user, cgroups: vec![] }).unwrap();
        Self { directory, process }
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.directory.path().join(files::CONSOLE)).unwrap_or_default()
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn exit(&mut self) -> Option<MachineExit> {
        eventually("berth-vmm ends", || self.process.try_wait().unwrap().is_some());
        serde_json::from_slice(&std::fs::read(self.directory.path().join(files::EXIT)).unwrap()).ok()
    }

    fn connect(&self) -> Control {
        let stream = UnixStream::connect(self.directory.path().join(files::CONTROL)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Control(BufReader::new(stream))
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.process.id()))
    }
}

impl Drop for Jailed {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

struct Control(BufReader<UnixStream>);

impl Control {
    fn ask(&mut self, request: &Request, files: &[&OwnedFd]) -> Reply {
        let line = format!("{}\n", serde_json::to_string(request).unwrap());
        let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        handover::send_with_descriptors(self.0.get_ref(), line.as_bytes(), &files).unwrap();
        let mut reply = String::new();
        self.0.read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap()
    }
}

fn open(path: &Path) -> OwnedFd {
    OpenOptions::new().read(true).write(true).open(path).unwrap().into()
}

fn config(directory: &Path) -> MachineConfig {
    let extent = Extent { path: directory.join("disk"), offset_bytes: 0, length_bytes: 1 << 20 };
    let bound = DiskConfig { capacity_bytes: 1 << 20, access: DiskAccess::ReadWrite, extents: vec![extent] };
    let unbound = DiskConfig { extents: vec![], ..bound.clone() };
    MachineConfig {
        id: "jailed".into(),
        accelerator: Accelerator::Kvm,
        // So many threads that the C library would ask how many heaps it may make.
        vcpus: 12,
        memory_mib: 32,
        kernel: directory.join("kernel"),
        initramfs: None,
        command_line: String::new(),
        disks: vec![bound, unbound],
        network_cards: vec![],
        balloon: None,
        shares: vec![],
        guest_cid: 3,
        console_limit_bytes: 64 << 10,
        host_cpuid: vec![],
        restore: None,
        qemu: PathBuf::new(),
    }
}

/// The value of a line of a `status` file (proc_pid_status(5)).
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_jailed_machine_has_nothing_and_still_runs() {
    if !possible("a_jailed_machine_has_nothing_and_still_runs") {
        return;
    }
    let mut machine = Jailed::start();
    // Its control socket answers before all of them are there.
    eventually("all threads are there", || threads(&machine).len() >= 7);
    eventually("every thread has a filter of its own", || {
        threads(&machine).iter().all(|thread| {
            let Ok(status) = std::fs::read_to_string(thread.join("status")) else { return false };
            // What clone3 is hidden by, the process's, its own.
            field(&status, "Seccomp_filters").parse::<u32>().unwrap() >= 3
        })
    });
    has_nothing(&machine, USER);
    let reply = machine.connect().ask(&Request::ShutDown, &[]);
    assert_eq!((reply, machine.exit()), (Reply::Done, Some(MachineExit::ShutDown)));
}

fn threads(machine: &Jailed) -> Vec<PathBuf> {
    std::fs::read_dir(machine.proc("task")).unwrap().map(|task| task.unwrap().path()).collect()
}

/// Of the host's, and runs as `user` only.
fn has_nothing(machine: &Jailed, user: u32) {
    for thread in threads(machine) {
        // One that answered a connection may have ended with it.
        let Ok(status) = std::fs::read_to_string(thread.join("status")) else { continue };
        for identity in ["Uid", "Gid"] {
            assert_eq!(field(&status, identity), format!("{user} {user} {user} {user}"));
        }
        assert_eq!(field(&status, "Groups"), "");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "Seccomp"), "2");
        for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(&status, capabilities), "0000000000000000", "{capabilities}");
        }
    }
    for namespace in ["mnt", "net", "ipc", "uts", "cgroup", "user"] {
        let link = |process: &Path| std::fs::read_link(process.join("ns").join(namespace)).unwrap();
        assert_ne!(link(&machine.proc("")), link(Path::new("/proc/self")), "{namespace}");
    }
    assert_eq!(std::fs::read_dir(machine.proc("root")).unwrap().count(), 0, "its root directory is empty");
    // Who may be traced owns the files of its directory (proc(5)).
    assert_eq!(std::fs::metadata(machine.proc("environ")).unwrap().uid(), 0, "it may be traced");
    let limits = std::fs::read_to_string(machine.proc("limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(limit("Max core file size"), 0);
    assert!(limit("Max processes") <= 512 && limit("Max open files") <= 16 << 10, "{limits}");
    assert!((1 << 20..1 << 28).contains(&limit("Max file size")), "{limits}");
    let mounts = std::fs::read_to_string(machine.proc("mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains(" ro,nosuid,nodev,noexec"), "{mounts}");
}

#[test]
fn a_daemon_without_rights_jails_its_machines_too() {
    const DAEMON: u32 = 0x7abc_0003;
    const TEST: &str = "a_daemon_without_rights_jails_its_machines_too";
    if !possible(TEST) {
        return;
    }
    let directories = Path::new(env!("CARGO_BIN_EXE_berth-vmm")).ancestors().skip(1);
    if directories.into_iter().any(|directory| directory.metadata().unwrap().mode() & 1 == 0) {
        eprintln!("skipped: {TEST}: other users may not enter the directories of berth-vmm");
        return;
    }
    let mut machine = Jailed::spawn_by(Some(DAEMON), &["kernel", "disk"]).speaking();
    has_nothing(&machine, DAEMON);
    let reply = machine.connect().ask(&Request::ShutDown, &[]);
    assert_eq!((reply, machine.exit()), (Reply::Done, Some(MachineExit::ShutDown)));
}

#[test]
fn no_descriptor_of_a_jailed_machine_leads_anywhere_else() {
    if !possible("no_descriptor_of_a_jailed_machine_leads_anywhere_else") {
        return;
    }
    let machine = Jailed::start();
    let directory = machine.directory.path().to_str().unwrap();
    eventually("what was handed over is let go of", || {
        !targets(&machine).contains(&format!("{directory}/kernel"))
    });
    for target in targets(&machine) {
        let its_own =
            ["/disk", "/lock", "/console.log", "/exit.json"].map(|name| format!("{directory}{name}"));
        let anonymous = ["socket:", "pipe:", "anon_inode:"].iter().any(|kind| target.starts_with(kind));
        let harmless = ["/dev/null", "/dev/kvm"].contains(&target.as_str());
        assert!(anonymous || harmless || its_own.contains(&target), "{target}");
    }
    for descriptor in std::fs::read_dir(machine.proc("fd")).unwrap() {
        let path = descriptor.unwrap().path();
        assert!(!std::fs::metadata(&path).is_ok_and(|target| target.is_dir()), "{}", path.display());
        let is_lock = std::fs::read_link(&path).is_ok_and(|target| target.ends_with(files::LOCK));
        if is_lock {
            let mode = std::fs::symlink_metadata(&path).unwrap().mode();
            assert_eq!(mode & 0o200, 0, "who holds the lock is not for it to say");
        }
    }
}

fn targets(machine: &Jailed) -> Vec<String> {
    let descriptors = std::fs::read_dir(machine.proc("fd")).unwrap();
    descriptors
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.to_str()?.to_owned()))
        .collect()
}

#[test]
fn a_jailed_machine_takes_disks_as_descriptors_only() {
    if !possible("a_jailed_machine_takes_disks_as_descriptors_only") {
        return;
    }
    let machine = Jailed::start();
    let mut control = machine.connect();
    let path = machine.directory.path().join("disk");
    let extent = Extent { path: path.clone(), offset_bytes: 0, length_bytes: 1 << 20 };
    let bind = Request::BindDisk { disk: 1, start_bytes: 0, access: None, extents: vec![extent] };
    let Reply::Error { message } = control.ask(&bind, &[]) else { panic!("bound by its path") };
    assert!(message.contains("was not handed over"), "{message}");
    let take = Request::TakeFiles { paths: vec![path.clone()] };
    let Reply::Error { message } = control.ask(&take, &[]) else { panic!("took what was not there") };
    assert!(message.contains("fewer descriptors"), "{message}");
    assert_eq!(control.ask(&take, &[&open(&path)]), Reply::Done);
    assert_eq!(control.ask(&bind, &[]), Reply::Done);
}

#[test]
fn a_jailed_machine_pauses_resumes_and_ends_when_asked_to() {
    if !possible("a_jailed_machine_pauses_resumes_and_ends_when_asked_to") {
        return;
    }
    let mut machine = Jailed::start();
    for (request, state) in [(Request::Pause, RunState::Paused), (Request::Resume, RunState::Running)] {
        // A connection each: their threads are started in the jail.
        assert_eq!(machine.connect().ask(&request, &[]), Reply::Done);
        let Reply::Status(status) = machine.connect().ask(&Request::Status, &[]) else { panic!("no status") };
        assert_eq!((status.state, status.pid), (state, machine.process.id()));
    }
    assert!(matches!(machine.connect().ask(&Request::Counters, &[]), Reply::Counters(_)));
    let signal = rustix::process::Signal::TERM;
    rustix::process::kill_process(rustix::process::Pid::from_child(&machine.process), signal).unwrap();
    assert_eq!(machine.exit(), Some(MachineExit::ShutDown));
}

#[test]
fn a_jailed_machine_is_saved_to_open_files_and_restored_from_such() {
    if !possible("a_jailed_machine_is_saved_to_open_files_and_restored_from_such") {
        return;
    }
    let saved = TempDir::new().unwrap();
    let files = ["snapshot", "memory"].map(|name| saved.path().join(name));
    for file in &files {
        File::create(file).unwrap();
    }
    let original = Jailed::start();
    let mut control = original.connect();
    let save = Request::SaveSnapshot { directory: saved.path().into(), track_changes: false };
    let Reply::Error { message } = control.ask(&save, &[]) else { panic!("saved to a path") };
    assert!(message.contains("was not handed over"), "{message}");
    let opened: Vec<OwnedFd> = files.iter().map(|file| open(file)).collect();
    let take = Request::TakeFiles { paths: files.to_vec() };
    assert_eq!(control.ask(&take, &opened.iter().collect::<Vec<_>>()), Reply::Done);
    let reply = control.ask(&save, &[]);
    assert!(matches!(reply, Reply::SnapshotSaved(_)), "{reply:?}");

    let restored = restored_from(saved.path(), &files);
    has_nothing(&restored, USER);
    let working_set = saved.path().join("working-set");
    File::create(&working_set).unwrap();
    let mut control = restored.connect();
    let take = Request::TakeFiles { paths: vec![working_set.clone()] };
    assert_eq!(control.ask(&take, &[&open(&working_set)]), Reply::Done);
    let reply = control.ask(&Request::RecordWorkingSet, &[]);
    assert!(matches!(reply, Reply::WorkingSetRecorded { .. }), "{reply:?}");
    // With a thread that fills memory ahead, until it is done.
    let [state, memory] = files;
    restored_from(saved.path(), &[state, memory, working_set]);
}

/// A machine from a snapshot; returns when its guest runs and only threads are left that stay.
fn restored_from(saved: &Path, files: &[PathBuf]) -> Jailed {
    let directory = TempDir::new().unwrap();
    let restore = Some(RestoreConfig { directory: saved.into(), paused: false });
    let config = MachineConfig { restore, ..config(directory.path()) };
    let machine = Jailed::spawn_configured(None, directory, &config, &["disk"], files).listening();
    let mut control = machine.connect();
    for request in [Request::Pause, Request::Resume] {
        assert_eq!(control.ask(&request, &[]), Reply::Done, "{}", machine.console());
    }
    let name = |thread: &PathBuf| std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
    eventually("memory is filled", || !threads(&machine).iter().any(|thread| name(thread) == "memory\n"));
    assert!(matches!(control.ask(&Request::Status, &[]), Reply::Status(_)));
    machine
}

#[test]
fn what_was_not_handed_over_is_named() {
    if !possible("what_was_not_handed_over_is_named") {
        return;
    }
    for (names, missing) in [(["kernel"], "/disk"), (["disk"], "/kernel")] {
        let mut machine = Jailed::spawn(&names);
        let Some(MachineExit::Failed { message }) = machine.exit() else {
            panic!("started without {missing}")
        };
        assert!(message.contains(missing) && message.contains("was not handed over"), "{message}");
    }
}
