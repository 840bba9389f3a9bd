//! The `berth-vmm` process behind a machine: spawned or adopted, signalled, reaped, and what it left when it is gone.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use berth_vmm::config::{CpuidLeaf, files};
use berth_vmm::control::MachineExit;
use berth_vmm::handover::{self, Orders};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};

use super::{CONSOLE_TAIL_BYTES, CONSOLE_TAIL_LINES, END_DEADLINE, MachineError, describe_exit};

/// Where `berth-vmm` complains before it has a better place.
const STDERR: &str = "stderr.log";

/// SIGSYS: what a system call that its filter forbids ends a process with.
const SECCOMP_SIGNAL: i32 = 31;
const SECCOMP_REASON: &str = "berth-vmm was killed by its seccomp filter, for a system call that no machine needs: \
     either its guest has taken it over, or the filter lacks one (the kernel's log names it, type=1326)";

/// A process that cannot be mistaken for another one that got its number later.
#[derive(Debug)]
pub(super) struct VmmProcess {
    pidfd: Arc<OwnedFd>,
    /// Only if this daemon started it.
    child: Option<Child>,
    stdout: Option<ChildStdout>,
}

impl VmmProcess {
    /// Starts `berth-vmm` without a jail.
    pub(super) fn spawn(vmm: &Path, directory: &Path) -> io::Result<Self> {
        Self::new(command(vmm, directory)?.stdin(Stdio::null()).spawn()?)
    }

    /// Starts `berth-vmm` and hands it what it goes to jail with.
    pub(super) async fn spawn_jailed(
        vmm: &Path,
        directory: &Path,
        files: Vec<(PathBuf, OwnedFd)>,
        orders: Orders,
    ) -> io::Result<Self> {
        let mut command = command(vmm, directory)?;
        command.arg("--jail");
        let runtime = tokio::runtime::Handle::current();
        let (sender, born) = tokio::sync::oneshot::channel();
        let birth = move || {
            let _runtime = runtime.enter();
            // If nobody waits any more, the state directory is all that knows of it.
            let _unwanted: Result<(), _> = sender.send(bear(command, &files, &orders));
        };
        std::thread::Builder::new().name("birth".into()).spawn(birth)?;
        Self::new(born.await.map_err(io::Error::other)??)
    }

    fn new(mut child: Child) -> io::Result<Self> {
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        let pidfd = Arc::new(rustix::process::pidfd_open(pid, PidfdFlags::empty())?);
        let stdout = child.stdout.take();
        Ok(Self { pidfd, child: Some(child), stdout })
    }

    /// The process of that id, which an earlier daemon started.
    pub(super) fn adopt(pid: i32) -> Option<Self> {
        let pid = Pid::from_raw(pid)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        Some(Self { pidfd: Arc::new(pidfd), child: None, stdout: None })
    }

    /// Waits for its line that says that the control socket accepts; false if it ended without.
    pub(super) async fn listening(&mut self) -> io::Result<bool> {
        let Some(mut stdout) = self.stdout.take() else { return Ok(false) };
        let mut line = Vec::new();
        // The program closes its stdout behind the line; a foreign program may say more than anybody wants to hear.
        (&mut stdout).take(64).read_to_end(&mut line).await?;
        Ok(line.starts_with(b"listening"))
    }

    pub(super) fn killer(&self) -> MachineKiller {
        MachineKiller(Arc::clone(&self.pidfd))
    }

    /// Waits until it is gone; its status if it was our child.
    pub(super) async fn reaped(&mut self) -> Option<ExitStatus> {
        match &mut self.child {
            Some(child) => child.wait().await.ok(),
            None => {
                let pidfd = Arc::clone(&self.pidfd);
                let waiting = tokio::task::spawn_blocking(move || wait_until_gone(&pidfd, END_DEADLINE));
                let _panicked = waiting.await;
                None
            }
        }
    }
}

/// The right to end one machine by force, for those who do not own it. It never means another one.
#[derive(Clone, Debug)]
pub(crate) struct MachineKiller(Arc<OwnedFd>);

impl MachineKiller {
    pub(crate) fn kill(&self) {
        // It may just have ended: then there is nothing to do.
        let _gone: rustix::io::Result<()> = rustix::process::pidfd_send_signal(&*self.0, Signal::KILL);
    }
}

fn command(vmm: &Path, directory: &Path) -> io::Result<Command> {
    let stderr = File::create(directory.join(STDERR))?;
    let mut command = Command::new(vmm);
    command.arg("--state-dir").arg(directory).stdout(Stdio::piped()).stderr(stderr);
    Ok(command)
}

/// Starts a process in a process namespace of its own, and hands it its files. To be called on a thread that does nothing
/// else: its children are born into the namespace, and a thread makes one only once.
fn bear(mut command: Command, files: &[(PathBuf, OwnedFd)], orders: &Orders) -> io::Result<Child> {
    // Without the right to it the machine sees the daemon's processes, and may do nothing to them.
    let _without: nix::Result<()> = unshare(CloneFlags::CLONE_NEWPID);
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let child = command.stdin(theirs).spawn()?;
    // It has the only other end, so that its death ends the handover.
    drop(command);
    let files: Vec<_> = files.iter().map(|(path, file)| (path.as_path(), file.as_fd())).collect();
    // A process that ended before it took everything says why on its standard error.
    let _ended: io::Result<()> = handover::send(&ours, &files, orders);
    Ok(child)
}

pub(super) fn spawn_error(id: &str, vmm: &Path, source: &io::Error) -> MachineError {
    let message = format!("cannot start {}: {source}; name the program with --vmm", vmm.display());
    MachineError::Refused { id: id.into(), message }
}

/// A `berth-vmm` that holds a directory's lock.
pub(super) struct LockHolder(OwnedFd);

impl LockHolder {
    pub(super) fn kill(&self) {
        let _gone: rustix::io::Result<()> = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
    }

    pub(super) fn wait_until_gone(&self, deadline: Duration) {
        wait_until_gone(&self.0, deadline);
    }
}

fn wait_until_gone(process: &OwnedFd, deadline: Duration) {
    let mut fds = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    let deadline = rustix::event::Timespec { tv_sec: deadline.as_secs().cast_signed(), tv_nsec: 0 };
    let _ready: rustix::io::Result<usize> = rustix::event::poll(&mut fds, Some(&deadline));
}

/// Whoever holds the lock of that directory, if somebody does.
pub(super) fn holder_of_lock(directory: &Path) -> Option<LockHolder> {
    use rustix::fs::{FlockOperation, flock};
    let lock = File::open(directory.join(files::LOCK)).ok()?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return None;
    }
    let pid = fs::read_to_string(directory.join(files::LOCK)).ok()?.trim().parse().ok()?;
    Some(LockHolder(rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?))
}

/// When a process began, which tells it from others that get its number later: field 22 of `/proc/PID/stat`. `None` for one
/// that is gone or a zombie.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything; fields count from the third there.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// One sentence on why the machine of that directory ended, and its console's last lines.
pub(super) fn end_reason(directory: &Path, status: Option<ExitStatus>) -> String {
    let told = last_bytes(&directory.join(files::EXIT)).ok();
    let exit = told.and_then(|json| serde_json::from_slice::<MachineExit>(&json).ok());
    let sentence = match (exit, status.and_then(|status| status.signal())) {
        (Some(exit), _) => describe_exit(&exit),
        (None, Some(SECCOMP_SIGNAL)) => SECCOMP_REASON.into(),
        (None, Some(signal)) => format!("berth-vmm was killed by signal {signal}"),
        (None, None) => match tail(&directory.join(STDERR)) {
            complaint if complaint.is_empty() => "berth-vmm was killed".into(),
            complaint => format!("berth-vmm failed: {complaint}"),
        },
    };
    sentence + &console_evidence(directory)
}

/// "; its console said last: …", or nothing if it said nothing.
pub(super) fn console_evidence(directory: &Path) -> String {
    let lines = tail(&directory.join(files::CONSOLE));
    if lines.is_empty() { lines } else { format!("; its console said last:\n{lines}") }
}

/// The end of a text file, as far as it is fit to be shown. A panic's own line is shown even if its trace is longer than
/// what else is.
fn tail(path: &Path) -> String {
    let bytes = last_bytes(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // The guest wrote this: nothing of it may steer a terminal.
    let printable = text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "");
    let lines: Vec<&str> = printable.lines().filter(|line| !line.trim().is_empty()).collect();
    let (earlier, last) = lines.split_at(lines.len().saturating_sub(CONSOLE_TAIL_LINES));
    let panic = earlier.iter().rev().find(|line| line.contains("Kernel panic"));
    panic.into_iter().chain(last).copied().collect::<Vec<_>>().join("\n")
}

fn last_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(CONSOLE_TAIL_BYTES as u64)))?;
    let mut bytes = Vec::new();
    file.take(CONSOLE_TAIL_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What `berth-vmm` hears from KVM. Blocks. Without it each machine asks for itself.
pub(super) fn host_cpuid(vmm: &Path) -> Vec<CpuidLeaf> {
    let asked = std::process::Command::new(vmm).arg("--host-cpuid").stdin(Stdio::null()).output();
    let leaves = asked.and_then(|output| Ok(serde_json::from_slice(&output.stdout)?));
    leaves.unwrap_or_else(|error| {
        tracing::warn!(vmm = %vmm.display(), %error, "does not say what KVM offers; machines start more slowly");
        vec![]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_machine_tells_why_with_its_last_console_lines() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(files::CONSOLE), "one\n\x1b[31mKernel panic - not syncing\x07\n")
            .unwrap();
        fs::write(directory.path().join(files::EXIT), br#"{"reason":"guest_reset"}"#).unwrap();
        let reason = end_reason(directory.path(), None);
        assert!(reason.starts_with("its guest reset itself"), "{reason}");
        assert!(reason.ends_with("said last:\none\n[31mKernel panic - not syncing"), "{reason}");
    }

    #[test]
    fn a_machine_that_was_killed_says_the_signal() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            end_reason(directory.path(), Some(ExitStatus::from_raw(9))),
            "berth-vmm was killed by signal 9"
        );
    }

    #[test]
    fn a_machine_that_did_what_it_may_not_says_so() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(files::EXIT), "").unwrap();
        let reason = end_reason(directory.path(), Some(ExitStatus::from_raw(SECCOMP_SIGNAL)));
        assert!(reason.contains("seccomp filter"), "{reason}");
    }

    #[tokio::test]
    async fn a_machine_is_born_into_a_process_namespace_of_its_own() {
        let rights = rustix::thread::capabilities(None).map(|own| own.effective);
        if !rights.is_ok_and(|own| own.contains(rustix::thread::CapabilitySet::SYS_ADMIN)) {
            let test = "a_machine_is_born_into_a_process_namespace_of_its_own";
            eprintln!("skipped: {test}: making a process namespace takes root's rights");
            return;
        }
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$"]).stdout(Stdio::piped());
        let orders = Orders { user: None, cgroups: Vec::new() };
        let runtime = tokio::runtime::Handle::current();
        let birth = std::thread::spawn(move || {
            let _runtime = runtime.enter();
            bear(command, &[], &orders)
        });
        let child = birth.join().unwrap().unwrap();
        assert_eq!(child.wait_with_output().await.unwrap().stdout, b"1\n");
    }

    #[test]
    fn only_the_newest_console_lines_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let lines: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        fs::write(directory.path().join(files::CONSOLE), lines).unwrap();
        let evidence = console_evidence(directory.path());
        assert_eq!(evidence.lines().count(), 1 + CONSOLE_TAIL_LINES);
        assert!(evidence.ends_with("line 999"));
    }

    #[test]
    fn a_panic_is_named_even_if_its_trace_is_long() {
        let directory = tempfile::tempdir().unwrap();
        let trace: String = (0..40).map(|n| format!("? function_{n}+0x1/0x2\n")).collect();
        fs::write(directory.path().join(files::CONSOLE), format!("Kernel panic - not syncing\n{trace}"))
            .unwrap();
        assert!(
            console_evidence(directory.path())
                .contains("said last:\nKernel panic - not syncing\n? function_28")
        );
    }

    #[test]
    fn an_unlocked_directory_has_no_holder() {
        let directory = tempfile::tempdir().unwrap();
        assert!(holder_of_lock(directory.path()).is_none());
        fs::write(directory.path().join(files::LOCK), "1").unwrap();
        assert!(holder_of_lock(directory.path()).is_none());
    }
}
