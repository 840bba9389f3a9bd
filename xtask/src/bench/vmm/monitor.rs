//! One machine of either side, from spawning the monitor to its first byte and its end.
//!
//! The clock is the same for both: it starts before the monitor is spawned, and stops when the byte that the guest
//! wrote to its serial port is in the file that the monitor keeps its console in, of which inotify tells us.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use serde_json::{Value, json};

/// A guest kernel that is interpreted needs a second for its first words on a busy host.
const BYTE_DEADLINE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
/// The kernel's earliest console, and nothing that would keep it silent.
const EARLY_CONSOLE: &str = "earlycon=uart8250,io,0x3f8 ignore_loglevel";
const CONTROL_DEADLINE: Duration = Duration::from_secs(10);
const CONTROL_INTERVAL: Duration = Duration::from_micros(200);
const DISK_BYTES: u64 = 1 << 20;
pub(super) const MEMORY_MIB: u32 = 256;

/// What there is to start.
pub(super) struct Host {
    /// `berth-vmm`.
    pub(super) monitor: PathBuf,
    /// Given to each machine, as the daemon does.
    pub(super) cpuid: Value,
    /// Machines' directories are made here.
    pub(super) directory: PathBuf,
    pub(super) stub: PathBuf,
    /// The product's kernel, if it was built, and the same file with the stub at its entries.
    pub(super) kernel: Option<PathBuf>,
    pub(super) large_stub: Option<PathBuf>,
    /// With the agent, to go with the kernel.
    pub(super) initramfs: Option<PathBuf>,
    /// A stub that never stops writing.
    pub(super) talker: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// With a disk, vsock, entropy and console devices.
    Ours,
    /// Without any device but the serial port.
    Peer,
}

/// What the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    Stub,
    /// The product's kernel, of which only the stub at its entry is executed.
    LargeStub,
    /// The product's kernel, told to use its early console.
    Kernel,
}

/// Where a machine of ours goes on from, and whether it waits to be told so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restore<'a> {
    pub(super) snapshot: &'a Path,
    pub(super) paused: bool,
}

/// A machine whose guest has written.
pub(super) struct Machine {
    child: Child,
    /// Ours only.
    state: Option<PathBuf>,
    pub(super) first_byte_after: Duration,
}

impl Host {
    pub(super) fn has_peer() -> bool {
        Command::new(QEMU).arg("--version").output().is_ok_and(|output| output.status.success())
    }

    fn guest_file(&self, guest: Guest) -> anyhow::Result<&Path> {
        match guest {
            Guest::Stub => Ok(&self.stub),
            Guest::LargeStub => self.large_stub.as_deref().context("there is no kernel"),
            Guest::Kernel => self.kernel.as_deref().context("there is no kernel"),
        }
    }

    /// Starts a machine and waits for its first byte.
    pub(super) fn start(&self, side: Side, guest: Guest) -> anyhow::Result<Machine> {
        self.prepare(side, guest)?.start()
    }

    /// Everything that is not to be measured: files, directories, the command line.
    pub(super) fn prepare(&self, side: Side, guest: Guest) -> anyhow::Result<Prepared> {
        let directory = self.new_directory()?;
        let kernel = self.guest_file(guest)?;
        let words = if guest == Guest::Kernel { EARLY_CONSOLE } else { "" };
        let console = Console::watch(directory.join("console.log"))?;
        let mut command = Command::new(&self.monitor);
        match side {
            Side::Ours => {
                let guest = Loaded { kernel, initramfs: None, words };
                write_configuration(&directory, &guest, &self.cpuid, MEMORY_MIB, None)?;
                command.arg("--state-dir").arg(&directory);
            }
            Side::Peer => command = qemu(kernel, words, &console.path),
        }
        let state = (side == Side::Ours).then_some(directory);
        Ok(Prepared { command, console, state })
    }

    /// A machine of ours with the talker and this much memory, from its beginning or from a snapshot.
    pub(super) fn prepare_talker(
        &self,
        memory_mib: u32,
        restore: Option<Restore<'_>>,
    ) -> anyhow::Result<Prepared> {
        let directory = self.new_directory()?;
        let console = Console::watch(directory.join("console.log"))?;
        let guest = Loaded { kernel: &self.talker, initramfs: None, words: "" };
        write_configuration(&directory, &guest, &self.cpuid, memory_mib, restore)?;
        let mut command = Command::new(&self.monitor);
        command.arg("--state-dir").arg(&directory);
        Ok(Prepared { command, console, state: Some(directory) })
    }

    /// A machine of ours with the product's kernel and agent, and its state directory; `None` without a kernel.
    pub(super) fn prepare_agent(&self, memory_mib: u32) -> anyhow::Result<Option<(Prepared, PathBuf)>> {
        let Some((kernel, initramfs)) = self.kernel.as_deref().zip(self.initramfs.as_deref()) else {
            return Ok(None);
        };
        let directory = self.new_directory()?;
        let console = Console::watch(directory.join("console.log"))?;
        let guest = Loaded { kernel, initramfs: Some(initramfs), words: "" };
        write_configuration(&directory, &guest, &self.cpuid, memory_mib, None)?;
        let mut command = Command::new(&self.monitor);
        command.arg("--state-dir").arg(&directory);
        Ok(Some((Prepared { command, console, state: Some(directory.clone()) }, directory)))
    }

    fn new_directory(&self) -> anyhow::Result<PathBuf> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = self.directory.join(format!("machine{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(directory)
    }
}

/// A machine that only has to be started.
pub(super) struct Prepared {
    command: Command,
    console: Console,
    state: Option<PathBuf>,
}

impl Prepared {
    /// Has strace write all system calls to `log`, of all threads. The tracer is a process of its own and ends with
    /// what it traces, which is our child as ever.
    pub(super) fn traced(self, log: &Path) -> Self {
        let mut command = Command::new("strace");
        command.args(["--daemonize", "--follow-forks", "--output"]).arg(log);
        command.arg(self.command.get_program()).args(self.command.get_args());
        Self { command, ..self }
    }

    /// From spawning to the first byte.
    pub(super) fn start(self) -> anyhow::Result<Machine> {
        let begun = Instant::now();
        let (mut machine, console) = self.spawn()?;
        if !console.wait()? {
            bail!("no byte of the guest's: {}", machine.why_it_ended());
        }
        machine.first_byte_after = begun.elapsed();
        Ok(machine)
    }

    /// Without waiting for anything.
    pub(super) fn spawn(mut self) -> anyhow::Result<(Machine, Console)> {
        let command = self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Cargo sets it for us; every directory in it is searched for every library.
        command.env_remove("LD_LIBRARY_PATH");
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok((Machine { child, state: self.state, first_byte_after: Duration::ZERO }, self.console))
    }
}

/// The file that a monitor keeps its console in.
pub(super) struct Console {
    path: PathBuf,
    changes: OwnedFd,
}

impl Console {
    fn watch(path: PathBuf) -> anyhow::Result<Self> {
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let changes = inotify::init(inotify::CreateFlags::CLOEXEC).context("no inotify")?;
        inotify::add_watch(&changes, &path, inotify::WatchFlags::MODIFY).context("no inotify")?;
        Ok(Self { path, changes })
    }

    /// Waits until something is in it; whether there ever was is the result.
    pub(super) fn wait(&self) -> anyhow::Result<bool> {
        while fs::metadata(&self.path)?.len() == 0 {
            let mut ready = [PollFd::new(&self.changes, PollFlags::IN)];
            if poll(&mut ready, Some(&BYTE_DEADLINE)).context("cannot wait for the guest")? == 0 {
                return Ok(false);
            }
            // The monitor empties the file when it begins, which is a change too.
            rustix::io::read(&self.changes, &mut [0; 4096])?;
        }
        Ok(true)
    }
}

impl Machine {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks over the control socket, once that is there, and gives the reply.
    ///
    /// # Errors
    /// It is not ours, does not answer, or answers with an error.
    pub(super) fn ask(&self, request: &serde_json::Value) -> anyhow::Result<String> {
        let socket = self.state.as_ref().context("only ours is asked")?.join("control.sock");
        let begun = Instant::now();
        let mut control = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break BufReader::new(stream),
                Err(error) if begun.elapsed() > CONTROL_DEADLINE => {
                    return Err(error).context("no control socket");
                }
                Err(_not_yet) => std::thread::sleep(CONTROL_INTERVAL),
            }
        };
        control.get_mut().write_all(format!("{request}\n").as_bytes())?;
        let mut reply = String::new();
        control.read_line(&mut reply)?;
        if reply.is_empty() || reply.contains("\"reply\":\"error\"") {
            bail!("{request} was answered with {reply:?}");
        }
        Ok(reply)
    }

    /// Its state directory, if it is ours.
    pub(super) fn state(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    fn why_it_ended(&mut self) -> String {
        let exit = self.state.as_ref().and_then(|state| fs::read_to_string(state.join("exit.json")).ok());
        let status = self.child.try_wait().ok().flatten().map(|status| status.to_string());
        exit.or(status).unwrap_or_else(|| "it still runs".to_owned())
    }

    /// Waits for an end that was asked for in another way.
    pub(super) fn wait(mut self) -> anyhow::Result<()> {
        self.child.wait().context("cannot wait for the monitor")?;
        Ok(())
    }
}

/// However the measuring ends, no machine stays behind.
impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(state) = &self.state {
            // The whole directory goes at the end anyway.
            fs::remove_dir_all(state).ok();
        }
    }
}

const QEMU: &str = "qemu-system-x86_64";

/// QEMU's smallest machine with its quickest firmware, and nothing in it but a serial port.
fn qemu(kernel: &Path, words: &str, console: &Path) -> Command {
    const MACHINE: &str =
        "microvm,acpi=off,pit=off,pic=off,rtc=off,pcie=off,usb=off,isa-serial=on,x-option-roms=off";
    let mut command = Command::new(QEMU);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.args(["-machine", MACHINE, "-accel", "kvm", "-cpu", "host", "-bios", "qboot.rom"]);
    command.args(["-m", &MEMORY_MIB.to_string()]);
    command.arg("-chardev").arg(format!("file,id=console,path={}", console.display()));
    command.args(["-serial", "chardev:console"]);
    command.arg("-kernel").arg(kernel).args(["-append", words]);
    command
}

/// What KVM offers on this host, as the monitor is told to say once for all machines.
pub(super) fn host_cpuid(monitor: &Path) -> anyhow::Result<Value> {
    let said = Command::new(monitor).arg("--host-cpuid").output()?;
    serde_json::from_slice(&said.stdout).context("berth-vmm --host-cpuid")
}

/// What is put into a machine's memory.
struct Loaded<'a> {
    kernel: &'a Path,
    initramfs: Option<&'a Path>,
    words: &'a str,
}

fn write_configuration(
    directory: &Path,
    guest: &Loaded<'_>,
    cpuid: &Value,
    memory_mib: u32,
    restore: Option<Restore<'_>>,
) -> anyhow::Result<()> {
    let disk = directory.join("disk");
    File::create(&disk)?.set_len(DISK_BYTES)?;
    let extent = json!({ "path": disk, "offset_bytes": 0, "length_bytes": DISK_BYTES });
    let configuration = json!({
        "id": "bench", "accelerator": "kvm", "vcpus": 1, "memory_mib": memory_mib,
        "kernel": guest.kernel, "initramfs": guest.initramfs, "command_line": guest.words,
        "disks": [{ "capacity_bytes": DISK_BYTES, "access": "read_write", "extents": [extent] }],
        "guest_cid": 3, "console_limit_bytes": 1 << 20, "host_cpuid": cpuid, "qemu": "",
        "restore": restore.map(|from| json!({ "directory": from.snapshot, "paused": from.paused })),
    });
    fs::write(directory.join("machine.json"), configuration.to_string())?;
    Ok(())
}
