//! The tcg accelerator: a child QEMU emulates the CPU in software, our devices serve it over vhost-user.
//!
//! For development and for hosts without virtualization; no security boundary. QEMU is bound to this process: it dies
//! with it however that happens, and when QEMU dies the machine is over, with what QEMU said as the reason.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use self::command::{Inherited, QemuDevice};
use self::time_stamp::Reading;
use crate::config::{MAX_EMULATED_DEVICES, MachineConfig, NetworkCardConfig};
use crate::console_log::ConsoleLog;
use crate::control::MachineExit;
use crate::device_set::DeviceSet;
use crate::qmp::{self, Qmp, QmpError};
use crate::virtio::VirtioDevice;
use crate::virtio::vhost_user::{self, Server};

mod child;
mod command;
mod relay;
mod time_stamp;

/// What QEMU wrote to its standard error is kept up to this many bytes.
const MAX_COMPLAINT_BYTES: usize = 4096;
const CONSOLE_BUFFER_BYTES: usize = 64 << 10;

/// Why QEMU could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TcgError {
    #[error("{qemu} is not installed: apt-get install qemu-system-x86")]
    QemuMissing { qemu: PathBuf },
    #[error("{qemu} could not be started")]
    Spawn { qemu: PathBuf, source: io::Error },
    #[error("{count} devices, and QEMU's microvm has room for {MAX_EMULATED_DEVICES}")]
    TooManyDevices { count: usize },
    #[error("serving the devices")]
    Serve(#[from] io::Error),
}

/// A machine that QEMU executes.
pub(crate) struct TcgMachine {
    qmp: Qmp,
    process: OwnedFd,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    _servers: Vec<Server>,
}

impl TcgMachine {
    /// Starts QEMU; how the machine ends is sent to `exits`. The calling thread must last as long as the process.
    ///
    /// # Errors
    /// QEMU is not installed or cannot be started, or the host is short of descriptors or threads.
    pub(crate) fn start(
        config: &MachineConfig,
        devices: DeviceSet,
        exits: Sender<MachineExit>,
    ) -> Result<Self, TcgError> {
        let early = Reading::now();
        let console = devices.console_log.clone();
        let (servers, ends) = serve_devices(devices, &config.network_cards)?;
        let (monitor, monitor_end) = UnixStream::pair()?;
        let (console_stream, console_end) = UnixStream::pair()?;
        let (qmp, qmp_listener) = Qmp::begin(monitor)?;
        let inherited = Inherited {
            monitor: inheritable(&monitor_end)?,
            console: inheritable(&console_end)?,
            devices: ends
                .iter()
                .map(|(device, end)| Ok((device.clone(), inheritable(end)?)))
                .collect::<io::Result<_>>()?,
        };
        let tsc_khz = Reading::now().khz_since(&early);
        let arguments = command::arguments(config, &inherited, tsc_khz);
        let mut child = spawn(&config.qemu, &arguments)?;
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
        let stderr = child.stderr.take().expect("spawned with a pipe for it");
        drop(ends);
        let watch = Watch {
            qemu: config.qemu.clone(),
            child,
            console: thread("console", move || copy_console(console_stream, &console))?,
            complaint: thread("qemu-stderr", move || last_words(stderr))?,
            qmp_listener,
        };
        let supervisor = thread("supervisor", move || {
            // The process may be ending for another reason already; then nobody listens.
            exits.send(watch.until_the_end()).ok();
        })?;
        Ok(Self { qmp, process, supervisor: Mutex::new(Some(supervisor)), _servers: servers })
    }

    /// # Errors
    /// QEMU is gone or stuck.
    pub(crate) fn pause(&self) -> Result<(), QmpError> {
        self.qmp.execute("stop")
    }

    /// # Errors
    /// QEMU is gone or stuck.
    pub(crate) fn resume(&self) -> Result<(), QmpError> {
        self.qmp.execute("cont")
    }

    /// Ends the guest at once, and returns when nothing of it is left.
    pub(crate) fn shut_down(&self) {
        // It fails only when the process is gone already.
        pidfd_send_signal(&self.process, Signal::KILL).ok();
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            // A supervisor that panicked has nothing left to wait for.
            supervisor.join().ok();
        }
    }
}

fn thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(body)
}

/// What QEMU is to have of each device, in guest order: a connection, or what it makes one to.
type DeviceEnds = Vec<(QemuDevice, OwnedFd)>;

/// Serves every device. QEMU has no transport for the console device, its own serial port stands in; shares are served
/// by others already.
fn serve_devices(
    devices: DeviceSet,
    cards: &[NetworkCardConfig],
) -> Result<(Vec<Server>, DeviceEnds), TcgError> {
    drop(devices.console);
    let log = devices.console_log;
    let blocks = devices.disks.into_iter().map(|disk| (QemuDevice::Block, disk));
    let others = [(QemuDevice::Vsock, devices.vsock), (QemuDevice::Rng, devices.rng)];
    let described = cards.iter().map(|card| QemuDevice::NetworkCard { mac: card.mac, mtu: card.mtu });
    let cards = described.zip(devices.network_cards);
    let ours: Vec<(QemuDevice, Box<dyn VirtioDevice>)> = blocks.chain(others).chain(cards).collect();
    let count = ours.len() + devices.share_servers.len();
    if count > MAX_EMULATED_DEVICES {
        return Err(TcgError::TooManyDevices { count });
    }
    let (mut servers, mut ends) = (Vec::new(), DeviceEnds::new());
    for (index, (kind, device)) in ours.into_iter().enumerate() {
        let (log, name): (Arc<ConsoleLog>, _) = (log.clone(), kind.name());
        let report = move |broken: &crate::virtio::Broken| {
            log.append(format!("berth-vmm: device {index} ({name}) stopped: {broken}\n").as_bytes());
        };
        let directory = Path::new(".");
        let (server, end) = vhost_user::serve(device, directory, Box::new(report))?;
        servers.push(server);
        let end = if kind.is_relayed() { relay::begin(end, directory)? } else { end.into() };
        ends.push((kind, end));
    }
    let shares = devices.share_servers.into_iter();
    ends.extend(shares.map(|(tag, connection)| (QemuDevice::Share { tag }, connection.into())));
    Ok((servers, ends))
}

/// Lets the next child have a descriptor, under the same number.
fn inheritable(descriptor: impl AsFd) -> io::Result<i32> {
    fcntl_setfd(&descriptor, FdFlags::empty())?;
    Ok(descriptor.as_fd().as_raw_fd())
}

fn spawn(qemu: &Path, arguments: &[OsString]) -> Result<Child, TcgError> {
    let mut command = Command::new(qemu);
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    child::spawn_bound_to_us(&mut command).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => TcgError::QemuMissing { qemu: qemu.into() },
        _ => TcgError::Spawn { qemu: qemu.into(), source },
    })
}

/// A running QEMU and the threads that listen to it.
struct Watch {
    qemu: PathBuf,
    child: Child,
    console: JoinHandle<()>,
    complaint: JoinHandle<String>,
    qmp_listener: qmp::Listener,
}

impl Watch {
    /// Waits until QEMU has ended and everything it and the guest said has been read.
    fn until_the_end(mut self) -> MachineExit {
        let status = self.child.wait();
        let reason = self.qmp_listener.join().ok().flatten();
        let complaint = self.complaint.join().unwrap_or_default();
        self.console.join().ok();
        match status {
            Ok(status) => judge(&self.qemu, status, reason.as_deref(), &complaint),
            Err(e) => MachineExit::Failed { message: format!("waiting for {}: {e}", self.qemu.display()) },
        }
    }
}

/// What QEMU's end means.
fn judge(qemu: &Path, status: ExitStatus, reason: Option<&str>, complaint: &str) -> MachineExit {
    if status.success() && matches!(reason, Some("guest-reset" | "guest-shutdown" | "guest-panic")) {
        return MachineExit::GuestReset;
    }
    let how = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(0)) => format!("was told to quit ({})", reason.unwrap_or("no reason given")),
        (None, code) => format!("failed with status {}", code.unwrap_or(-1)),
    };
    let separator = if complaint.is_empty() { "" } else { ": " };
    MachineExit::Failed { message: format!("{} {how}{separator}{complaint}", qemu.display()) }
}

/// Everything the guest prints on its serial port, until QEMU closes it.
fn copy_console(mut from: UnixStream, log: &ConsoleLog) {
    let mut buffer = vec![0; CONSOLE_BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => log.append(&buffer[..length]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// The end of what is written to `from`, on one line.
fn last_words(mut from: impl Read) -> String {
    let mut words = Vec::new();
    let mut part = [0; MAX_COMPLAINT_BYTES];
    while let Ok(length @ 1..) = from.read(&mut part) {
        words.extend_from_slice(&part[..length]);
        let surplus = words.len().saturating_sub(MAX_COMPLAINT_BYTES);
        words.drain(..surplus);
    }
    String::from_utf8_lossy(&words).trim().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(raw_status: i32, reason: Option<&str>, complaint: &str) -> MachineExit {
        judge(Path::new("qemu"), ExitStatus::from_raw(raw_status), reason, complaint)
    }

    #[test]
    fn a_guest_that_resets_is_no_failure() {
        assert_eq!(verdict(0, Some("guest-reset"), ""), MachineExit::GuestReset);
        assert_eq!(verdict(0, Some("guest-shutdown"), "a warning"), MachineExit::GuestReset);
    }

    #[test]
    fn every_other_end_of_qemu_says_how() {
        for (status, reason, complaint, expected) in [
            (9, None, "", "qemu was killed by signal 9"),
            (9, Some("guest-reset"), "", "qemu was killed by signal 9"),
            (0, Some("host-signal"), "terminating", "qemu was told to quit (host-signal): terminating"),
            (0, None, "", "qemu was told to quit (no reason given)"),
            (1 << 8, None, "no such machine", "qemu failed with status 1: no such machine"),
        ] {
            assert_eq!(verdict(status, reason, complaint), MachineExit::Failed { message: expected.into() });
        }
    }

    #[test]
    fn of_a_long_complaint_the_end_is_kept() {
        let text = "x".repeat(3 * MAX_COMPLAINT_BYTES) + "\nthe reason\n";
        let words = last_words(text.as_bytes());
        assert!(words.len() <= MAX_COMPLAINT_BYTES + 1);
        assert!(words.ends_with("; the reason"));
    }
}
