//! The kernel's virtual machine interface: the only file that knows its ioctls.
//!
//! [`Host`] is `/dev/kvm`, [`Machine`] one machine's memory slots and interrupt lines, [`Vcpu`] one processor.
//! Creation follows the order that costs least: memory slots, then the interrupt chips, then event descriptors
//! and vCPUs. A slot that is added after the interrupt chips waits for a grace period of the kernel.
//! What a processor starts with is `boot`'s business, what an exit means is `vcpu`'s.

#![expect(unsafe_code, reason = "the structures shared with the kernel are raw memory")]

mod memory_slots;
mod state;

use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, Msrs, kvm_fpu, kvm_pit_config, kvm_regs, kvm_sregs,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuExit, VcpuFd, VmFd};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

pub(crate) use self::memory_slots::DirtyLog;
use self::memory_slots::set_memory_slots;
pub(crate) use self::state::{SavedChips, SavedVcpu, VcpuRestoreError, align_time_stamps};
use crate::host_files::{Access, HOST_FILES};
use crate::kvm_statistics::VcpuStatistics;
use crate::layout;
use crate::memory::GuestMemoryMmap;

/// Where KVM is.
const DEVICE: &str = "/dev/kvm";
/// The only version there has been since 2007.
const API_VERSION: i32 = 12;
// The one request of ours that the crates do not have.
ioctl_io_nr!(KVM_GET_STATS_FD, kvm_bindings::KVMIO, 0xce);

#[derive(Debug, thiserror::Error)]
pub(crate) enum KvmError {
    #[error(
        "/dev/kvm is missing: enable virtualization in the firmware and load the kvm module, or use --accelerator tcg"
    )]
    Missing,
    #[error(
        "no permission to open /dev/kvm: add this user to the group kvm (usermod -aG kvm USER) and log in again"
    )]
    Forbidden,
    #[error("cannot open /dev/kvm: {0}")]
    Open(io::Error),
    #[error("/dev/kvm offers {0}, which is not enough for a machine: use --accelerator tcg")]
    TooOld(String),
    #[error("vcpus: KVM on this host runs machines of at most {most} processors, not of {asked}")]
    TooManyVcpus { asked: usize, most: usize },
    #[error("KVM cannot {step}")]
    Call { step: &'static str, source: io::Error },
}

/// For `map_err`: names what KVM refused.
fn refused(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Call { step, source: error.into() }
}

/// `/dev/kvm`, open and sufficient.
#[derive(Debug)]
pub(crate) struct Host(Kvm);

impl Host {
    /// # Errors
    /// It is missing, not ours to open, or lacks something; the message names the fix.
    pub(crate) fn open() -> Result<Self, KvmError> {
        Self::open_at(Path::new(DEVICE))
    }

    fn open_at(path: &Path) -> Result<Self, KvmError> {
        let file = HOST_FILES.open(path, Access::ReadWrite).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => KvmError::Missing,
            Some(libc::EACCES | libc::EPERM) => KvmError::Forbidden,
            _ => KvmError::Open(error),
        })?;
        // SAFETY: the descriptor is open, and given away here; that it is KVM's is asked next.
        let kvm = unsafe { Kvm::from_raw_fd(file.into_raw_fd()) };
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(KvmError::TooOld(format!("version {version} of its interface")));
        }
        // What else a machine needs refuses by itself where it is missing. Without this, only a kick would get lost.
        if !kvm.check_extension(Cap::ImmediateExit) {
            return Err(KvmError::TooOld("no way to keep a processor out of the guest".to_owned()));
        }
        Ok(Self(kvm))
    }

    /// Whether a machine may have this many processors; says so if it may but should not.
    ///
    /// # Errors
    /// KVM has a limit, and this is more.
    pub(crate) fn check_vcpus(&self, asked: u8) -> Result<Option<TooManyForSpeed>, KvmError> {
        check_vcpus(asked.into(), self.0.get_nr_vcpus(), self.0.get_max_vcpus())
    }

    /// What a guest's CPUID may say on this host.
    pub(crate) fn supported_cpuid(&self) -> Result<CpuId, KvmError> {
        self.0.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(refused("list the processor's features"))
    }

    /// Whether the local APIC's timer can be driven by the time stamp counter.
    pub(crate) fn has_tsc_deadline_timer(&self) -> bool {
        self.0.check_extension(Cap::TscDeadlineTimer)
    }

    /// A machine with RAM and interrupt chips, without processors.
    pub(crate) fn create_machine(&self, memory: &GuestMemoryMmap) -> Result<Machine, KvmError> {
        let machine = self.0.create_vm().map_err(refused("create a machine"))?;
        machine
            .set_identity_map_address(layout::KVM_IDENTITY_MAP_START)
            .map_err(refused("place its identity map"))?;
        let tss = usize::try_from(layout::KVM_TSS_START).expect("x86-64 addresses fit usize");
        machine.set_tss_address(tss).map_err(refused("place its task state segment"))?;
        set_memory_slots(&machine, memory, DirtyLog::Off)?;
        machine.create_irq_chip().map_err(refused("create interrupt chips"))?;
        let timer = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        machine.create_pit2(timer).map_err(refused("create an interval timer"))?;
        Ok(Machine { fd: machine, memory: memory.clone() })
    }
}

/// More processors than the host has to run them on. Allowed, and slow: spinning ones wait for ones that do not run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("vcpus: {asked} processors share the {recommended} of this host, which KVM advises against")]
pub(crate) struct TooManyForSpeed {
    asked: usize,
    recommended: usize,
}

fn check_vcpus(asked: usize, recommended: usize, most: usize) -> Result<Option<TooManyForSpeed>, KvmError> {
    if asked > most {
        return Err(KvmError::TooManyVcpus { asked, most });
    }
    Ok((asked > recommended).then_some(TooManyForSpeed { asked, recommended }))
}

/// One machine: its interrupt lines, its notifications, its processors.
pub(crate) struct Machine {
    fd: VmFd,
    /// Dropped after `fd`: KVM maps it.
    memory: GuestMemoryMmap,
}

impl Machine {
    /// A write of `event` pulses interrupt line `irq`.
    pub(crate) fn connect_interrupt(&self, event: &EventFd, irq: u32) -> Result<(), KvmError> {
        self.fd.register_irqfd(event, irq).map_err(refused("connect an interrupt line"))
    }

    /// When the guest writes the 32-bit `value` to `address`, `event` is signalled and no vCPU leaves the guest.
    pub(crate) fn connect_notification(
        &self,
        event: &EventFd,
        address: u64,
        value: u32,
    ) -> Result<(), KvmError> {
        let address = IoEventAddress::Mmio(address);
        self.fd.register_ioevent(event, &address, value).map_err(refused("connect a queue notification"))
    }

    /// Processor number `id`. Number 0 runs at once; the others wait until the guest starts them.
    pub(crate) fn create_vcpu(&self, id: u8) -> Result<Vcpu, KvmError> {
        let mut fd = self.fd.create_vcpu(id.into()).map_err(refused("create a processor"))?;
        let flag = NonNull::from(&mut fd.get_kvm_run().immediate_exit);
        let features = CpuId::from_entries(&[]).expect("an empty list");
        Ok(Vcpu { fd, features, kick: Kick(Arc::new(Mutex::new(Some(FlagInRunPage(flag))))) })
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// What a processor starts with.
#[derive(Debug)]
pub(crate) struct VcpuState {
    pub(crate) cpuid: CpuId,
    pub(crate) msrs: Msrs,
    pub(crate) fpu: kvm_fpu,
}

/// Where the boot processor starts.
#[derive(Debug)]
pub(crate) struct EntryState {
    pub(crate) registers: kvm_regs,
    pub(crate) system_registers: kvm_sregs,
}

/// Why a vCPU left the guest.
#[derive(Debug)]
pub(crate) enum Exit<'a> {
    PortRead {
        port: u16,
        data: &'a mut [u8],
    },
    PortWrite {
        port: u16,
        data: &'a [u8],
    },
    MmioRead {
        address: u64,
        data: &'a mut [u8],
    },
    MmioWrite {
        address: u64,
        data: &'a [u8],
    },
    /// Another thread called [`Kick::kick`], or a signal arrived.
    Kicked,
    /// A triple fault, or a reset or power-off that KVM itself recognised.
    Reset,
    /// KVM met an instruction it cannot emulate: see [`Vcpu::complete_instruction`].
    NotEmulated,
    /// KVM cannot go on; [`Vcpu::describe_failure`] says more.
    Failed(&'static str),
}

/// One processor. Runs on the thread that calls [`Vcpu::run`].
pub(crate) struct Vcpu {
    fd: VcpuFd,
    /// As they were set; what KVM would tell has bits in it that follow the processor's state.
    features: CpuId,
    kick: Kick,
}

impl Vcpu {
    pub(crate) fn kick_handle(&self) -> Kick {
        self.kick.clone()
    }

    /// What KVM counts of this processor; nothing where it does not (before Linux 5.14).
    pub(crate) fn statistics(&self) -> Option<VcpuStatistics> {
        // SAFETY: takes no argument and answers with a descriptor or an error.
        let answer = unsafe { ioctl(&self.fd, KVM_GET_STATS_FD()) };
        // SAFETY: KVM has just made this descriptor, for us.
        (answer >= 0).then(|| VcpuStatistics::new(unsafe { OwnedFd::from_raw_fd(answer) }))
    }

    /// Sets what every processor needs, the boot processor or not.
    pub(crate) fn set_state(&mut self, state: &VcpuState) -> Result<(), KvmError> {
        self.set_features(&state.cpuid)?;
        let set = self.fd.set_msrs(&state.msrs).map_err(refused("set model-specific registers"))?;
        let wanted = state.msrs.as_slice().len();
        if set < wanted {
            let source = io::Error::other(format!("it took {set} of {wanted}"));
            return Err(KvmError::Call { step: "set model-specific registers", source });
        }
        self.fd.set_fpu(&state.fpu).map_err(refused("set the floating-point unit"))?;
        self.connect_local_interrupts()
    }

    fn set_features(&mut self, features: &CpuId) -> Result<(), KvmError> {
        self.fd.set_cpuid2(features).map_err(refused("set a processor's features"))?;
        self.features = features.clone();
        Ok(())
    }

    /// The local APIC's pins as a PC's firmware leaves them: the 8259 on LINT0, NMI on LINT1.
    fn connect_local_interrupts(&self) -> Result<(), KvmError> {
        /// Offsets in the APIC's page and delivery modes in a vector entry (Intel SDM 3A, section 11.5.1).
        const LINT0_OFFSET: usize = 0x350;
        const LINT1_OFFSET: usize = 0x360;
        const MODE_EXTINT: u8 = 0x7;
        const MODE_NMI: u8 = 0x4;
        let mut apic = self.fd.get_lapic().map_err(refused("read a local APIC"))?;
        for (offset, mode) in [(LINT0_OFFSET, MODE_EXTINT), (LINT1_OFFSET, MODE_NMI)] {
            let delivery = &mut apic.regs[offset + 1];
            *delivery = (*delivery & !0x7) | mode.cast_signed();
        }
        self.fd.set_lapic(&apic).map_err(refused("set a local APIC"))
    }

    pub(crate) fn system_registers(&self) -> Result<kvm_sregs, KvmError> {
        self.fd.get_sregs().map_err(refused("read a processor's registers"))
    }

    pub(crate) fn set_entry(&self, entry: &EntryState) -> Result<(), KvmError> {
        self.fd.set_sregs(&entry.system_registers).map_err(refused("set a processor's system registers"))?;
        self.fd.set_regs(&entry.registers).map_err(refused("set a processor's registers"))
    }

    /// Runs guest code until there is something to do outside.
    ///
    /// # Errors
    /// KVM refuses to run this processor at all.
    pub(crate) fn run(&mut self) -> Result<Exit<'_>, KvmError> {
        Ok(match self.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => Exit::PortRead { port, data },
            Ok(VcpuExit::IoOut(port, data)) => Exit::PortWrite { port, data },
            Ok(VcpuExit::MmioRead(address, data)) => Exit::MmioRead { address, data },
            Ok(VcpuExit::MmioWrite(address, data)) => Exit::MmioWrite { address, data },
            Ok(VcpuExit::Intr) => Exit::Kicked,
            Ok(VcpuExit::Shutdown | VcpuExit::SystemEvent(..)) => Exit::Reset,
            Ok(VcpuExit::Hlt) => Exit::Failed("halted although KVM has the interrupt chips"),
            Ok(VcpuExit::InternalError) => Exit::NotEmulated,
            Ok(VcpuExit::FailEntry(..)) => Exit::Failed("could not be entered"),
            Ok(VcpuExit::MemoryFault { .. }) => Exit::Failed("touched memory that the host cannot provide"),
            Ok(_) => Exit::Failed("left the guest for a reason that is not known here"),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Exit::Kicked,
            Err(error) => return Err(refused("run a processor")(error)),
        })
    }

    /// To be called before looking at what another thread wants: a kick after this makes the next `run` return.
    pub(crate) fn accept_kicks(&self) {
        self.kick.store(0);
    }

    /// Tells a guest with a paravirtual clock that it did not run for a while, so its watchdogs stay calm.
    pub(crate) fn announce_pause(&self) {
        // Fails where the guest has no such clock, which then has nothing to be told.
        let _ = self.fd.kvmclock_ctrl();
    }

    /// Completes the instruction at which KVM gave up, if it is one of the two that a software KVM's interpreter of
    /// kernel code lacks and that can be done from here: INT3, a kernel's way to patch itself, and FWAIT. Says
    /// whether it was.
    ///
    /// # Errors
    /// KVM does not let go of the processor's state.
    pub(crate) fn complete_instruction(&mut self) -> Result<bool, KvmError> {
        const INT3: u8 = 0xcc;
        const FWAIT: u8 = 0x9b;
        let failure = self.internal_error().map(|error| error.instruction).unwrap_or_default();
        match failure.first() {
            Some(&INT3) => {
                self.skip_byte()?;
                self.inject_breakpoint()?;
            }
            // Waits for floating-point exceptions, which kernels leave masked.
            Some(&FWAIT) => self.skip_byte()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn skip_byte(&self) -> Result<(), KvmError> {
        let mut registers = self.fd.get_regs().map_err(refused("read a processor's registers"))?;
        registers.rip = registers.rip.wrapping_add(1);
        self.fd.set_regs(&registers).map_err(refused("set a processor's registers"))
    }

    fn inject_breakpoint(&self) -> Result<(), KvmError> {
        const BREAKPOINT_VECTOR: u8 = 3;
        let mut events = self.fd.get_vcpu_events().map_err(refused("read a processor's events"))?;
        events.exception.injected = 1;
        events.exception.nr = BREAKPOINT_VECTOR;
        events.exception.has_error_code = 0;
        self.fd.set_vcpu_events(&events).map_err(refused("inject an exception"))
    }

    /// Where the processor stands and what KVM says of its last exit, for a person to read.
    pub(crate) fn describe_failure(&mut self) -> String {
        let position = match (self.fd.get_regs(), self.fd.get_sregs()) {
            (Ok(registers), Ok(system)) => {
                let level = if system.cs.dpl == 0 { "kernel" } else { "user" };
                format!("at {level} address {:#x}", registers.rip)
            }
            _ => "at an unknown address".to_owned(),
        };
        if let Some(error) = self.internal_error() {
            return format!("{position}: {error}");
        }
        let run = self.fd.get_kvm_run();
        if run.exit_reason == kvm_bindings::KVM_EXIT_FAIL_ENTRY {
            // SAFETY: the exit reason says that this is the union's current field; it is plain integers.
            let entry = unsafe { run.__bindgen_anon_1.fail_entry };
            return format!("{position}: hardware reason {:#x}", entry.hardware_entry_failure_reason);
        }
        format!("{position}: exit reason {}", run.exit_reason)
    }

    fn internal_error(&mut self) -> Option<InternalError> {
        let run = self.fd.get_kvm_run();
        if run.exit_reason != kvm_bindings::KVM_EXIT_INTERNAL_ERROR {
            return None;
        }
        // SAFETY: the exit reason says that this is the union's current field; it is plain integers.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let words = internal.data.get(..internal.ndata as usize).unwrap_or_default();
        Some(InternalError { number: internal.suberror, instruction: instruction_bytes(words) })
    }
}

/// KVM_EXIT_INTERNAL_ERROR.
struct InternalError {
    number: u32,
    /// What could not be emulated, and what follows it; empty if KVM does not say.
    instruction: Vec<u8>,
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "internal error {}", self.number)?;
        if !self.instruction.is_empty() {
            f.write_str(", instruction bytes")?;
        }
        self.instruction.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

/// The instruction in an emulation failure's data: flags, then a length byte and up to 15 bytes.
fn instruction_bytes(words: &[u64]) -> Vec<u8> {
    const HAS_BYTES: u64 = kvm_bindings::KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES as u64;
    const MAX_BYTES: usize = 15;
    match words {
        [flags, rest @ ..] if flags & HAS_BYTES != 0 => {
            let mut bytes = rest.iter().flat_map(|word| word.to_le_bytes());
            let length = bytes.next().unwrap_or(0);
            bytes.take(usize::from(length).min(MAX_BYTES)).collect()
        }
        _ => Vec::new(),
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // The page is unmapped with `fd`: whoever still holds a handle finds nothing.
        *self.kick.lock() = None;
    }
}

impl fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpu").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// Makes a vCPU's next, or by way of a signal current, [`Vcpu::run`] return. From any thread.
#[derive(Clone)]
pub(crate) struct Kick(Arc<Mutex<Option<FlagInRunPage>>>);

struct FlagInRunPage(NonNull<u8>);

// SAFETY: the pointer is only used through an atomic, and only while the page is mapped: see `Kick::store`.
unsafe impl Send for FlagInRunPage {}

impl Kick {
    /// The flag alone does not interrupt a vCPU that is in the guest: the caller sends its thread a signal next.
    pub(crate) fn set(&self) {
        self.store(1);
    }

    fn store(&self, value: u8) {
        if let Some(flag) = &*self.lock() {
            // SAFETY: the page is mapped: `Vcpu::drop` takes the pointer away under this lock before it unmaps
            // it. This process accesses the byte by this function only, the kernel reads it as a single byte.
            let flag = unsafe { AtomicU8::from_ptr(flag.0.as_ptr()) };
            flag.store(value, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<FlagInRunPage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Kick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kick")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_names_the_fix() {
        let message = Host::open_at(Path::new("/dev/there-is-no-kvm")).unwrap_err().to_string();
        assert!(message.contains("--accelerator tcg"), "{message}");
    }

    #[test]
    fn a_device_that_is_something_else_is_no_kvm() {
        assert!(matches!(Host::open_at(Path::new("/dev/null")), Err(KvmError::TooOld(_))));
    }

    #[test]
    fn processors_are_bounded_by_what_kvm_can_and_advised_by_what_it_should() {
        assert_eq!(check_vcpus(2, 2, 8).unwrap(), None);
        let advice = check_vcpus(3, 2, 8).unwrap().unwrap().to_string();
        assert_eq!(advice, "vcpus: 3 processors share the 2 of this host, which KVM advises against");
        assert!(check_vcpus(8, 2, 8).is_ok());
        let refusal = check_vcpus(9, 2, 8).unwrap_err().to_string();
        assert_eq!(refusal, "vcpus: KVM on this host runs machines of at most 8 processors, not of 9");
    }

    #[test]
    fn failure_data_shows_the_instruction_and_survives_nonsense() {
        // Length 2, bytes 0f 0b, then rubbish.
        assert_eq!(instruction_bytes(&[1, 0xffff_ffff_ff0b_0f02]), [0x0f, 0x0b]);
        assert!(instruction_bytes(&[0, 0x0b_0f02]).is_empty());
        assert!(instruction_bytes(&[1]).is_empty());
        assert!(instruction_bytes(&[]).is_empty());
        assert_eq!(instruction_bytes(&[1, 0xff]), [0; 7]);
        assert_eq!(instruction_bytes(&[1, 0xff, 0, 0, 0]).len(), 15);
        let error = InternalError { number: 1, instruction: vec![0xcc, 0x90] };
        assert_eq!(error.to_string(), "internal error 1, instruction bytes cc 90");
    }
}
