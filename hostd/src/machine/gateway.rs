//! The user-mode network stack behind a machine's card: a `passt` process, which speaks for the guest with sockets of its
//! own, on hosts where the daemon may make no interfaces.
//!
//! Started before the machine, it waits for one connection in its life, which the machine has, and ends with it; so it lasts
//! through a restart of the daemon, with the ports that it has published. What it jails itself with, and what that leaves,
//! says docs/security.md; what of the guest's frames it gets to see, decides `berth-vmm`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, fchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use berth_vmm::config::{GatewayConfig, MacAddress};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::timeout;

use super::jail::Cell;
use super::process::start_time;
use super::{MachineError, Machines};
use crate::network::firewall::Protocol;
use crate::network::ports::ReservedPort;

/// Below the state directory: the socket in a directory that is the process's own, its own word who it is, [`Record`] as
/// JSON, and what it says.
const SOCKET: &str = "gateway/socket";
const SOCKET_DIRECTORY: &str = "gateway";
const PID: &str = "gateway.pid";
const RECORD: &str = "gateway.json";
const LOG: &str = "gateway.log";

/// It binds its ports and makes its namespaces; then it goes on in the background.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Its connection's end is its own, within moments.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// What a daemon that is root gives it to be, where machines have no users of their own: nobody.
const NOBODY: u32 = 65_534;

/// How the stack is told to be.
///
/// It speaks IPv4 alone, answers ARP and nothing else that configures guests: the guest knows its address already. What it
/// needs no more than to start, an interface and its routes, it is to look for at `lo`: that one is there on every host,
/// and sockets find their way without it.
const OPTIONS: [&str; 14] = [
    "--quiet",
    "--stderr",
    "--one-off",
    "--ipv4-only",
    "--interface",
    "lo",
    "--dns",
    "none",
    "--search",
    "none",
    "--no-dhcp",
    "--no-dhcpv6",
    "--no-ndp",
    "--no-ra",
];

/// What is asked of a stack.
#[derive(Debug)]
pub(crate) struct GatewayRequest {
    pub(crate) guest: Ipv4Addr,
    pub(crate) prefix_length: u8,
    /// Its own address in the guest's eyes.
    pub(crate) address: Ipv4Addr,
    pub(crate) forwards: Vec<Forward>,
    /// Ports of the forwards that nobody else has meanwhile: the stack takes them from here.
    pub(crate) reserved: Vec<ReservedPort>,
}

/// A port of the host's that leads to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) protocol: Protocol,
    pub(crate) host: SocketAddrV4,
    pub(crate) port: u16,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error(
        "cannot start {program}, which is the network of machines without privilege: {source}; install it (`apt-get \
         install passt`) or name it with --passt"
    )]
    Start { program: PathBuf, source: io::Error },
    #[error("passt, the machine's network, did not start: {complaint}")]
    Refused { complaint: String },
    #[error("no answer within {} s while waiting for passt to start", START_DEADLINE.as_secs())]
    Deadline,
    #[error("the machine's network: cannot {step}: {source}")]
    Io { step: &'static str, source: io::Error },
}

/// The process behind a machine's card.
#[derive(Debug)]
pub(super) struct Gateway {
    process: OwnedFd,
}

/// A machine's stack, for who wants to know whether it is still there.
#[derive(Debug)]
pub(crate) struct GatewayWatch(Option<Gateway>);

/// A process that cannot be mistaken for another one that got its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: u32,
    /// In the kernel's ticks since boot (proc(5)).
    started: u64,
}

impl GatewayWatch {
    /// Whether it is no more, however it ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|gateway| is_gone_within(&gateway.process, Duration::ZERO))
    }
}

impl Machines {
    /// Looks at the stack of machine `id`, which has one or had.
    pub(crate) fn gateway_watch(&self, id: &str) -> GatewayWatch {
        GatewayWatch(Gateway::find(&self.directory(id)))
    }

    /// Starts the stack of machine `id`, if one is asked for.
    pub(super) async fn start_gateway(
        &self,
        id: &str,
        directory: &Path,
        cell: Option<&Cell>,
        request: Option<GatewayRequest>,
    ) -> Result<(), MachineError> {
        let Some(request) = request else { return Ok(()) };
        let groups = cell.map_or(&[][..], Cell::control_groups);
        let user = cell.and_then(Cell::user);
        let started = Gateway::start(&self.settings.passt, directory, user, groups, request).await;
        started.map(drop).map_err(|cause| MachineError::Gateway { id: id.into(), cause })
    }
}

/// What the card of the machine of that state directory is connected to.
pub(super) fn connection(directory: &Path, request: &GatewayRequest) -> GatewayConfig {
    GatewayConfig { socket: directory.join(SOCKET), guest: request.guest, address: request.address }
}

/// Sees to it that the stack of a machine that is no more, or never was, is no more either; then its ports are free. Blocks
/// for a moment.
pub(super) fn end(directory: &Path) {
    knock(directory);
    if let Some(gateway) = Gateway::find(directory) {
        gateway.wait_until_gone();
    }
}

/// Ends a stack that no machine has connected to: it takes one connection in its life, and ends with it.
fn knock(directory: &Path) {
    let _nobody_there: io::Result<UnixStream> = UnixStream::connect(directory.join(SOCKET));
}

impl Gateway {
    /// Starts the stack of the machine of that state directory, as a member of these control groups. A daemon that is root
    /// gives it `user` to be.
    ///
    /// # Errors
    /// The program is missing, a port is somebody else's, or the host refuses it what it needs.
    pub(super) async fn start(
        program: &Path,
        directory: &Path,
        user: Option<u32>,
        groups: &[PathBuf],
        request: GatewayRequest,
    ) -> Result<Self, GatewayError> {
        let failed = |step| move |source| GatewayError::Io { step, source };
        let user = rustix::process::geteuid().is_root().then_some(user.unwrap_or(NOBODY));
        prepare_pid_file(&directory.join(PID), user).map_err(failed("make a file for passt"))?;
        prepare_socket_directory(&directory.join(SOCKET_DIRECTORY), user)
            .map_err(failed("make a directory for passt"))?;
        let log = directory.join(LOG);
        let mut command = Command::new(program);
        command.args(arguments(directory, user, &request));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).map_err(failed("make a log for passt"))?);
        // It outlives this daemon, whatever a terminal sends to the daemon's group.
        command.process_group(0).env_clear().current_dir("/").kill_on_drop(true);
        drop(request.reserved);
        let spawned = command.spawn();
        let mut child = spawned.map_err(|source| GatewayError::Start { program: program.into(), source })?;
        // What was started ends when the process proper has begun in the background, or has said why not.
        let status =
            timeout(START_DEADLINE, child.wait()).await.map_err(|_elapsed| GatewayError::Deadline)?;
        if !status.map_err(failed("wait for passt"))?.success() {
            return Err(GatewayError::Refused { complaint: complaint(&log) });
        }
        let gateway = Self::begin(directory).map_err(failed("find passt"))?;
        let pid = gateway.0.pid.to_string();
        for group in groups {
            fs::write(group.join("cgroup.procs"), &pid)
                .map_err(failed("put passt into the machine's control groups"))?;
        }
        Ok(gateway.1)
    }

    /// What has just begun, and is written down for a later daemon.
    fn begin(directory: &Path) -> io::Result<(Record, Self)> {
        let text = fs::read_to_string(directory.join(PID))?;
        let pid = text.trim().parse().map_err(io::Error::other)?;
        let record = Record { pid, started: start_time(pid).ok_or(io::ErrorKind::NotFound)? };
        let json = serde_json::to_vec(&record).expect("plain data is always JSON");
        fs::write(directory.join(RECORD), json)?;
        let gateway = Self::of(record).ok_or(io::ErrorKind::NotFound)?;
        Ok((record, gateway))
    }

    /// The stack of a machine that an earlier daemon started, if it has one that lives.
    fn find(directory: &Path) -> Option<Self> {
        let json = fs::read(directory.join(RECORD)).ok()?;
        Self::of(serde_json::from_slice(&json).ok()?)
    }

    fn of(record: Record) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(record.pid).ok()?)?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Only now is it certain whom the number means.
        (start_time(record.pid) == Some(record.started)).then_some(Self { process })
    }

    /// Waits for its end, which its machine's was. One that does not end is killed.
    fn wait_until_gone(&self) {
        if !is_gone_within(&self.process, END_DEADLINE) {
            tracing::warn!("passt does not end with its machine; killing it");
            self.kill();
            is_gone_within(&self.process, END_DEADLINE);
        }
    }

    fn kill(&self) {
        // It may just have ended: then there is nothing to do.
        let _gone: rustix::io::Result<()> = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
    }
}

fn is_gone_within(process: &OwnedFd, deadline: Duration) -> bool {
    let mut fds = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    let deadline = rustix::event::Timespec { tv_sec: deadline.as_secs().cast_signed(), tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&deadline)).is_ok_and(|ready| ready > 0)
}

/// It opens the file as the user that it has become.
fn prepare_pid_file(path: &Path, user: Option<u32>) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    match user {
        Some(user) => fchown(&file, Some(user), Some(user)),
        None => Ok(()),
    }
}

/// It makes its socket there as the user that it has become, and does not say when it could not.
fn prepare_socket_directory(path: &Path, user: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    chown(path, user, user)
}

fn arguments(directory: &Path, user: Option<u32>, request: &GatewayRequest) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = OPTIONS.iter().map(OsString::from).collect();
    let mut add = |name: &str, value: OsString| arguments.extend([OsString::from(name), value]);
    add("--address", request.guest.to_string().into());
    add("--netmask", request.prefix_length.to_string().into());
    add("--gateway", request.address.to_string().into());
    add("--mac-addr", mac_of(request.address).to_string().into());
    add("--socket", directory.join(SOCKET).into());
    add("--pid", directory.join(PID).into());
    if let Some(user) = user {
        add("--runas", format!("{user}:{user}").into());
    }
    for (flag, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
        let mut forwards = request.forwards.iter().filter(|forward| forward.protocol == protocol).peekable();
        if forwards.peek().is_none() {
            // Otherwise the ports of the other protocol would be this one's, too.
            add(flag, "none".into());
        }
        for Forward { host, port, .. } in forwards {
            add(flag, format!("{}/{}:{port}", host.ip(), host.port()).into());
        }
    }
    arguments
}

/// The stack's, which nobody else sees; as containers' own are made.
fn mac_of(address: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = address.octets();
    MacAddress([0x02, 0x42, a, b, c, d])
}

/// Its last words, without those about a log that it did not find.
fn complaint(log: &Path) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    let mut lines = said.lines().filter(|line| !line.trim().is_empty() && !line.contains("syslog"));
    lines.next_back().unwrap_or("it does not say why").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(forwards: Vec<Forward>) -> GatewayRequest {
        GatewayRequest {
            guest: [10, 0, 0, 2].into(),
            prefix_length: 24,
            address: [10, 0, 0, 1].into(),
            forwards,
            reserved: Vec::new(),
        }
    }

    fn text(arguments: &[OsString]) -> String {
        arguments.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ports_are_forwarded_one_by_one_and_no_others() {
        let forward = |protocol, host: &str, port| Forward { protocol, host: host.parse().unwrap(), port };
        let words = text(&arguments(
            Path::new("/s"),
            Some(7),
            &request(vec![
                forward(Protocol::Tcp, "0.0.0.0:8080", 80),
                forward(Protocol::Tcp, "127.0.0.1:8081", 80),
                forward(Protocol::Udp, "0.0.0.0:53", 5353),
            ]),
        ));
        for part in [
            "--tcp-ports 0.0.0.0/8080:80 --tcp-ports 127.0.0.1/8081:80 --udp-ports 0.0.0.0/53:5353",
            "--address 10.0.0.2 --netmask 24 --gateway 10.0.0.1 --mac-addr 02:42:0a:00:00:01",
            "--socket /s/gateway/socket --pid /s/gateway.pid --runas 7:7",
        ] {
            assert!(words.contains(part), "{words}");
        }
        let none = text(&arguments(Path::new("/s"), None, &request(Vec::new())));
        assert!(none.ends_with("--tcp-ports none --udp-ports none") && !none.contains("runas"), "{none}");
    }

    /// Where the program is; said so where it is not.
    fn passt() -> Option<&'static Path> {
        let program = Path::new("/usr/bin/passt");
        if program.exists() {
            return Some(program);
        }
        eprintln!("skipped: machine::gateway: there is no passt");
        None
    }

    /// A directory that the stack's user may come to.
    fn directory() -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        directory
    }

    fn free_port() -> (ReservedPort, Forward) {
        let reserved = ReservedPort::take(Protocol::Tcp, "127.0.0.1:0".parse().unwrap()).unwrap();
        let std::net::SocketAddr::V4(host) = reserved.address() else { unreachable!("it was asked for") };
        (reserved, Forward { protocol: Protocol::Tcp, host, port: 80 })
    }

    #[tokio::test]
    async fn a_stack_lasts_as_long_as_its_connection_and_is_found_by_a_later_daemon() {
        let Some(passt) = passt() else { return };
        let directory = directory();
        let (reserved, forward) = free_port();
        let request = GatewayRequest { reserved: vec![reserved], ..request(vec![forward]) };
        let started = Gateway::start(passt, directory.path(), None, &[], request).await.unwrap();
        let taken = ReservedPort::take(Protocol::Tcp, forward.host.into()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "the stack has the port");
        let connection = UnixStream::connect(directory.path().join(SOCKET)).unwrap();
        let found = Gateway::find(directory.path()).unwrap();
        // Knocking does not end one that has a machine.
        knock(directory.path());
        assert!(!is_gone_within(&found.process, Duration::ZERO));
        drop(connection);
        started.wait_until_gone();
        assert!(is_gone_within(&found.process, Duration::ZERO));
        assert!(Gateway::find(directory.path()).is_none());
        ReservedPort::take(Protocol::Tcp, forward.host.into()).unwrap();
    }

    #[tokio::test]
    async fn a_stack_without_a_machine_is_ended_by_a_knock() {
        let Some(passt) = passt() else { return };
        let directory = directory();
        let started = Gateway::start(passt, directory.path(), None, &[], request(Vec::new())).await.unwrap();
        end(directory.path());
        assert!(is_gone_within(&started.process, Duration::ZERO));
        assert!(Gateway::find(directory.path()).is_none());
    }

    #[tokio::test]
    async fn a_stack_that_cannot_be_says_why() {
        let (nowhere, missing) = (directory(), Path::new("/nowhere/passt"));
        let missing = Gateway::start(missing, nowhere.path(), None, &[], request(Vec::new())).await;
        let message = missing.unwrap_err().to_string();
        assert!(message.contains("/nowhere/passt") && message.contains("--passt"), "{message}");
        let Some(passt) = passt() else { return };
        let (_kept, forward) = free_port();
        let taken = Gateway::start(passt, directory().path(), None, &[], request(vec![forward])).await;
        let message = taken.unwrap_err().to_string();
        assert!(message.contains(&format!("/{}:80", forward.host.port())), "{message}");
    }
}
