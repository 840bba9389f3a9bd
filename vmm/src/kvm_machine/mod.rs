//! A machine on KVM: puts memory, devices, processors and a kernel together, and runs it.
//!
//! [`KvmMachine::boot`] is the list of what a machine takes, in the order it must be taken. Every end that is not
//! asked for (a reset by the guest, a failure) is sent to the channel the caller gave; the caller then drops the
//! machine, which stops all its threads. [`restore`] is the same list for a machine that goes on from a snapshot, and
//! [`save`] takes one.

mod restore;
mod save;

use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::restore::Origin;
pub(crate) use self::restore::{RecordError, RestoreError};
use self::save::Tracked;
pub(crate) use self::save::{SaveError, Tracking};
use crate::boot::cpuid::{self, Virtualization};
use crate::boot::{self, BootError, Payload, command_line, cpu_state};
use crate::bus::{Bus, Overlap};
use crate::config::MachineConfig;
use crate::control::{MachineExit, VcpuCounters};
use crate::device_set::DeviceSet;
use crate::devices::reset::KeyboardController;
use crate::devices::serial::SerialPort;
use crate::event_loop::{EventLoop, RunningLoop};
use crate::jail::ThreadKind;
use crate::kvm::{self, KvmError, Vcpu, VcpuState};
use crate::kvm_statistics::VcpuStatistics;
use crate::layout;
use crate::memory::GuestMemoryMmap;
use crate::memory::{self, MemoryError};
use crate::snapshot::Filling;
use crate::vcpu::{Buses, FirstState, RunningVcpu, install_kick_signal};
use crate::virtio::mmio::{Connections, MmioDevice, OnBroken, QUEUE_NOTIFY};
use crate::virtio::{DeviceKind, VirtioDevice};

/// Takes what the guest prints.
pub(crate) type Console = Arc<dyn Fn(&[u8]) + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error("the machine's address map: {0}")]
    Map(#[from] Overlap),
    #[error("{count} virtio devices are more than the {} that there is room for", layout::MAX_VIRTIO_DEVICES)]
    TooManyDevices { count: usize },
    #[error("cannot start the machine's threads: {0}")]
    Threads(#[from] io::Error),
    #[error("cannot restore the machine: {0}")]
    Restore(#[from] RestoreError),
}

/// A running machine. Dropping it ends it.
pub(crate) struct KvmMachine {
    // In the order in which they end: nothing notifies a device whose loop is gone, nothing runs without memory.
    vcpus: Vec<RunningVcpu>,
    statistics: Vec<Option<VcpuStatistics>>,
    _event_loops: Vec<RunningLoop>,
    /// Whoever touches memory that is not there yet waits for this.
    _filling: Option<Filling>,
    serial: Arc<SerialPort>,
    virtio: Vec<Arc<MmioDevice>>,
    machine: kvm::Machine,
    memory: GuestMemoryMmap,
    host: kvm::Host,
    /// The snapshot that this machine goes on from.
    origin: Option<Origin>,
    /// The snapshot that a later one builds on.
    tracked: Mutex<Option<Tracked>>,
}

impl KvmMachine {
    /// Starts a machine with all that its configuration makes.
    ///
    /// # Errors
    /// Names what is missing on the host, or wrong with the kernel or the snapshot.
    pub(crate) fn start(
        config: &MachineConfig,
        set: DeviceSet,
        exits: &Sender<MachineExit>,
    ) -> Result<Self, StartError> {
        let mut devices = set.disks;
        devices.extend([set.vsock, set.rng, set.console]);
        devices.extend(set.network_cards);
        devices.extend(set.balloon);
        devices.extend(set.shares);
        let log = set.console_log;
        let console: Console = Arc::new(move |text: &[u8]| log.append(text));
        match set.snapshot {
            None => Self::boot(config, devices, &console, exits),
            Some(snapshot) => Self::restore(config, snapshot, devices, &console, exits),
        }
    }

    /// Starts a machine with these devices, in guest order.
    ///
    /// # Errors
    /// Names what is missing on the host, or wrong with the kernel.
    pub(crate) fn boot(
        config: &MachineConfig,
        devices: Vec<Box<dyn VirtioDevice>>,
        console: &Console,
        exits: &Sender<MachineExit>,
    ) -> Result<Self, StartError> {
        let host = kvm::Host::open()?;
        if let Some(advice) = host.check_vcpus(config.vcpus)? {
            console(format!("berth-vmm: {advice}\n").as_bytes());
        }
        let memory = allocate_memory(config)?;
        let machine = host.create_machine(&memory)?;
        let kernel = load_kernel(config, &memory, number_of(&devices)?)?;
        let attached = Attached::new(&machine, &memory, devices, console, exits)?;
        let vcpus = create_vcpus(&host, &machine, config)?;
        enter(&vcpus, kernel)?;
        let parts = Parts { host, memory, machine, attached, vcpus, filling: None, origin: None };
        parts.start(FirstState::Running, exits)
    }

    /// Takes all processors out of the guest. Returns when none of them runs guest code any more.
    pub(crate) fn pause(&self) {
        self.vcpus.iter().for_each(RunningVcpu::pause);
        self.vcpus.iter().for_each(RunningVcpu::settle);
    }

    pub(crate) fn resume(&self) {
        self.vcpus.iter().for_each(RunningVcpu::resume);
        self.vcpus.iter().for_each(RunningVcpu::settle);
    }

    /// What KVM counts of each processor, as far as it does.
    pub(crate) fn vcpu_counters(&self) -> Vec<VcpuCounters> {
        let read = |one: &Option<VcpuStatistics>| one.as_ref().and_then(|one| one.read().ok());
        self.statistics.iter().map(|one| read(one).unwrap_or_default()).collect()
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Ends all processors, for good. Returns when none of them runs guest code any more.
    pub(crate) fn shut_down(&self) {
        self.vcpus.iter().for_each(RunningVcpu::stop);
        self.vcpus.iter().for_each(RunningVcpu::settle);
    }
}

impl Drop for KvmMachine {
    fn drop(&mut self) {
        // All at once, so that the first one's end is not the others' time to wait.
        self.vcpus.iter().for_each(RunningVcpu::stop);
    }
}

fn number_of(devices: &[Box<dyn VirtioDevice>]) -> Result<u32, StartError> {
    let count = devices.len();
    match u32::try_from(count) {
        Ok(number) if number <= layout::MAX_VIRTIO_DEVICES => Ok(number),
        _ => Err(StartError::TooManyDevices { count }),
    }
}

/// Servers of shares map the guest's memory, too.
fn allocate_memory(config: &MachineConfig) -> Result<GuestMemoryMmap, MemoryError> {
    let bytes = u64::from(config.memory_mib) << 20;
    if config.shares.is_empty() { memory::allocate(bytes) } else { memory::allocate_shareable(bytes) }
}

fn load_kernel(
    config: &MachineConfig,
    memory: &GuestMemoryMmap,
    virtio_devices: u32,
) -> Result<GuestAddress, BootError> {
    let host = Virtualization::of_this_host();
    let payload = Payload {
        kernel: &config.kernel,
        initramfs: config.initramfs.as_deref(),
        command_line: &command_line::compose(virtio_devices, host, &config.command_line),
        vcpus: config.vcpus,
    };
    boot::load(memory, &payload)
}

/// A machine that only has to be started.
struct Parts {
    host: kvm::Host,
    memory: GuestMemoryMmap,
    machine: kvm::Machine,
    attached: Attached,
    vcpus: Vec<Vcpu>,
    filling: Option<Filling>,
    origin: Option<Origin>,
}

impl Parts {
    fn start(self, first: FirstState, exits: &Sender<MachineExit>) -> Result<KvmMachine, StartError> {
        let statistics = self.vcpus.iter().map(Vcpu::statistics).collect();
        // The guest first: until it has found its first device, the loops are there.
        let vcpus = start_vcpus(self.vcpus, first, &Arc::new(self.attached.buses), exits)?;
        let event_loops = start_loops(self.attached.event_loops, exits)?;
        Ok(KvmMachine {
            vcpus,
            statistics,
            _event_loops: event_loops,
            _filling: self.filling,
            serial: self.attached.serial,
            virtio: self.attached.virtio,
            machine: self.machine,
            memory: self.memory,
            host: self.host,
            origin: self.origin,
            tracked: Mutex::default(),
        })
    }
}

/// The disks' and everybody else's.
type EventLoops = [(ThreadKind, EventLoop); 2];

/// The devices of a machine: on its buses, on event loops, and by themselves.
struct Attached {
    buses: Buses,
    event_loops: EventLoops,
    serial: Arc<SerialPort>,
    virtio: Vec<Arc<MmioDevice>>,
}

impl Attached {
    fn new(
        machine: &kvm::Machine,
        memory: &GuestMemoryMmap,
        devices: Vec<Box<dyn VirtioDevice>>,
        console: &Console,
        exits: &Sender<MachineExit>,
    ) -> Result<Self, StartError> {
        let mut buses = Buses { ports: Bus::default(), mmio: Bus::default() };
        let serial = SerialPort::new(interrupt_line(machine, layout::SERIAL_IRQ)?, console.clone());
        let serial = Arc::new(serial);
        buses.ports.insert(layout::SERIAL_PORT, layout::SERIAL_PORTS, serial.clone())?;
        let keyboard = KeyboardController::new(exits.clone());
        buses.ports.insert(layout::KEYBOARD_PORT, layout::KEYBOARD_PORTS, Arc::new(keyboard))?;
        let (virtio, event_loops) = connect_virtio(machine, memory, devices, console, &mut buses.mmio)?;
        Ok(Self { buses, event_loops, serial, virtio })
    }
}

fn interrupt_line(machine: &kvm::Machine, irq: u32) -> Result<EventFd, StartError> {
    let line = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
    machine.connect_interrupt(&line, irq)?;
    Ok(line)
}

/// Puts the devices on the bus and on event loops: disks on one of their own, for a disk may wait for the host's
/// storage and nothing else should.
fn connect_virtio(
    machine: &kvm::Machine,
    memory: &GuestMemoryMmap,
    devices: Vec<Box<dyn VirtioDevice>>,
    console: &Console,
    mmio: &mut Bus,
) -> Result<(Vec<Arc<MmioDevice>>, EventLoops), StartError> {
    let mut virtio = Vec::with_capacity(devices.len());
    let mut disks = EventLoop::new()?;
    let mut others = EventLoop::new()?;
    let mut lines = VirtioLines {
        machine,
        shared: devices.len().saturating_sub(layout::VIRTIO_LINES as usize),
        lines: Vec::new(),
    };
    for (index, device) in (0..).zip(devices) {
        let event_loop = if device.kind() == DeviceKind::Block { &mut disks } else { &mut others };
        let connections = Connections {
            memory: memory.clone(),
            interrupt: lines.of_device(index)?,
            host_watch: event_loop.next_host_watch(),
            on_broken: report_broken(console.clone(), index),
        };
        let device = Arc::new(MmioDevice::new(device, connections)?);
        let start = layout::virtio_start(index);
        for (queue, notifier) in (0..).zip(device.notifiers()) {
            machine.connect_notification(notifier, start + QUEUE_NOTIFY, queue)?;
        }
        event_loop.add(device.clone())?;
        mmio.insert(start, layout::VIRTIO_DEVICE_BYTES, device.clone())?;
        virtio.push(device);
    }
    Ok((virtio, [(ThreadKind::Disks, disks), (ThreadKind::Devices, others)]))
}

/// The interrupt lines of virtio devices. Those that share one write the same descriptor: KVM pulses a line for one
/// descriptor at a time, while pulses by way of two could overlap and be one.
struct VirtioLines<'m> {
    machine: &'m kvm::Machine,
    /// How many of the first devices' lines have a second device.
    shared: usize,
    lines: Vec<EventFd>,
}

impl VirtioLines<'_> {
    /// To be called for one device after the other.
    fn of_device(&mut self, index: u32) -> Result<EventFd, StartError> {
        let irq = layout::virtio_irq(index);
        if index >= layout::VIRTIO_LINES
            && let Some(shared) = self.lines.get((irq - layout::VIRTIO_FIRST_IRQ) as usize)
        {
            return Ok(shared.try_clone()?);
        }
        let line = interrupt_line(self.machine, irq)?;
        if self.lines.len() < self.shared {
            self.lines.push(line.try_clone()?);
        }
        Ok(line)
    }
}

/// The console log is where people look when a machine misbehaves.
fn report_broken(console: Console, index: u32) -> OnBroken {
    Box::new(move |kind, broken| {
        console(format!("berth-vmm: virtio device {index} ({kind:?}) stopped: {broken}\n").as_bytes());
    })
}

fn traits_of(host: &kvm::Host) -> cpuid::HostTraits {
    cpuid::HostTraits {
        has_tsc_deadline_timer: host.has_tsc_deadline_timer(),
        virtualization: Virtualization::of_this_host(),
    }
}

fn create_vcpus(
    host: &kvm::Host,
    machine: &kvm::Machine,
    config: &MachineConfig,
) -> Result<Vec<Vcpu>, StartError> {
    let supported = cpuid::supported(host, &config.host_cpuid)?;
    let traits = traits_of(host);
    let count = config.vcpus;
    let create = |id| {
        let mut vcpu = machine.create_vcpu(id)?;
        vcpu.set_state(&VcpuState {
            cpuid: cpuid::for_vcpu(&supported, id, count, traits),
            msrs: cpu_state::initial_msrs(),
            fpu: cpu_state::initial_fpu(),
        })?;
        Ok(vcpu)
    };
    (0..count).map(create).collect()
}

/// Puts the first processor at the kernel's entry; the kernel starts the others.
fn enter(vcpus: &[Vcpu], kernel: GuestAddress) -> Result<(), KvmError> {
    match vcpus.first() {
        Some(first) => first.set_entry(&cpu_state::entry(kernel, first.system_registers()?)),
        None => Ok(()),
    }
}

fn start_loops(loops: EventLoops, exits: &Sender<MachineExit>) -> io::Result<Vec<RunningLoop>> {
    loops.into_iter().map(|(kind, event_loop)| event_loop.start(kind, exits.clone())).collect()
}

fn start_vcpus(
    vcpus: Vec<Vcpu>,
    first: FirstState,
    buses: &Arc<Buses>,
    exits: &Sender<MachineExit>,
) -> Result<Vec<RunningVcpu>, StartError> {
    install_kick_signal()?;
    let start = |(id, vcpu)| Ok(RunningVcpu::start(vcpu, id, first, buses.clone(), exits.clone())?);
    (0..).zip(vcpus).map(start).collect()
}
