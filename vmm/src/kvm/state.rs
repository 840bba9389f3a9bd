//! What KVM keeps of a machine, taken out of it and put into another one: processors, interrupt chips, clock.
//!
//! The order of restoring is part of the interface: features before registers, system registers before the local
//! APIC (they switch it on), the local APIC before what its timer counts with, chips behind the processors they
//! interrupt. Nothing here trusts a saved value more than KVM does, which checks each.

#![expect(unsafe_code, reason = "KVM_SET_XSAVE reads as many bytes as the host's features say")]

use std::io;

use kvm_bindings::{
    CpuId, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs, kvm_clock_data,
    kvm_cpuid_entry2, kvm_debugregs, kvm_irqchip, kvm_lapic_state, kvm_mp_state, kvm_msr_entry,
    kvm_pit_state2, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::Cap;
use serde::{Deserialize, Serialize};

use super::{Host, KvmError, Machine, Vcpu, refused};

/// Model-specific registers handed to KVM at a time; it takes no more than 256.
const MSRS_AT_A_TIME: usize = 128;
/// Two clocks count at the same rate if they differ by less than this: a real one drifts as much.
const TSC_TOLERANCE_PPM: u64 = 250;

const MSR_TSC: u32 = 0x10;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// Writing these is a request, not a state: KVM answers with the time of day, in guest memory.
const MSR_KVM_WALL_CLOCKS: [u32; 2] = [0x11, 0x4b56_4d00];

/// One processor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedVcpu {
    cpuid: Vec<kvm_cpuid_entry2>,
    activity: kvm_mp_state,
    registers: kvm_regs,
    system_registers: kvm_sregs,
    /// Floating point and vectors; the register that says which of them the guest uses, where there is one.
    extended: kvm_xsave,
    extended_control: Option<kvm_xcrs>,
    debug_registers: kvm_debugregs,
    local_apic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
    tsc_khz: u32,
}

/// What the processors share.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedChips {
    first_pic: kvm_irqchip,
    second_pic: kvm_irqchip,
    io_apic: kvm_irqchip,
    interval_timer: kvm_pit_state2,
    clock: kvm_clock_data,
}

/// Why a processor cannot go on here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VcpuRestoreError {
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error(
        "its processor has other features than this host offers: CPUID leaf {leaf:#x}, {subleaf} differs"
    )]
    Features { leaf: u32, subleaf: u32 },
    #[error("its time stamps count at {saved_khz} kHz, this host's at {host_khz} kHz and cannot be scaled")]
    TimeStampRate { saved_khz: u32, host_khz: u32 },
    #[error("KVM does not take value {value:#x} for model-specific register {index:#x}")]
    Register { index: u32, value: u64 },
    #[error("a list of {0} entries is longer than KVM takes")]
    TooLong(usize),
}

impl Host {
    /// The model-specific registers that make up a processor's state.
    pub(crate) fn saved_msrs(&self) -> Result<Vec<u32>, KvmError> {
        let list = self.0.get_msr_index_list().map_err(refused("list model-specific registers"))?;
        let mut msrs: Vec<u32> =
            list.as_slice().iter().copied().filter(|index| !MSR_KVM_WALL_CLOCKS.contains(index)).collect();
        // Counts from the time stamp, and is lost when that moves behind it.
        msrs.sort_by_key(|index| *index == MSR_TSC_DEADLINE);
        Ok(msrs)
    }

    fn scales_time_stamps(&self) -> bool {
        self.0.check_extension(Cap::TscControl)
    }
}

impl Vcpu {
    /// From now until [`Self::accept_kicks`], `run` finishes what the last exit began and returns.
    pub(crate) fn return_at_once(&self) {
        self.kick.set();
    }

    /// The processor's state. What its last exit began must be finished: see [`Self::return_at_once`].
    ///
    /// # Errors
    /// KVM does not tell something that it should.
    pub(crate) fn save(&self, msrs: &[u32]) -> Result<SavedVcpu, KvmError> {
        // First: it makes start-up interrupts that arrived take effect.
        let activity = self.fd.get_mp_state().map_err(refused("read a processor's activity"))?;
        Ok(SavedVcpu {
            cpuid: self.features.as_slice().to_vec(),
            activity,
            registers: self.fd.get_regs().map_err(refused("read a processor's registers"))?,
            system_registers: self.system_registers()?,
            extended: self.fd.get_xsave().map_err(refused("read a processor's vector registers"))?,
            extended_control: self.fd.get_xcrs().ok(),
            debug_registers: self
                .fd
                .get_debug_regs()
                .map_err(refused("read a processor's debug registers"))?,
            local_apic: self.fd.get_lapic().map_err(refused("read a local APIC"))?,
            msrs: self.read_msrs(msrs)?,
            events: self.fd.get_vcpu_events().map_err(refused("read a processor's events"))?,
            tsc_khz: self.fd.get_tsc_khz().map_err(refused("read the rate of time stamps"))?,
        })
    }

    /// Those of `wanted` that KVM lets us read: it lists some that only other hosts have.
    fn read_msrs(&self, wanted: &[u32]) -> Result<Vec<kvm_msr_entry>, KvmError> {
        let mut read = Vec::with_capacity(wanted.len());
        let mut rest = wanted;
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(MSRS_AT_A_TIME)];
            let entries: Vec<_> =
                part.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
            let mut msrs = Msrs::from_entries(&entries).expect("as many as a list may hold");
            let count = self.fd.get_msrs(&mut msrs).map_err(refused("read model-specific registers"))?;
            read.extend(msrs.as_slice().iter().take(count));
            // The one at which KVM stopped is left out.
            rest = &rest[(count + 1).min(part.len())..];
        }
        Ok(read)
    }

    /// Makes this processor what `saved` was. `expected` is what its CPUID must be on this host.
    ///
    /// # Errors
    /// The saved processor cannot run on this host, or KVM refuses a part of it.
    pub(crate) fn restore(
        &mut self,
        host: &Host,
        saved: &SavedVcpu,
        expected: &CpuId,
    ) -> Result<(), VcpuRestoreError> {
        compare_features(expected.as_slice(), &saved.cpuid)?;
        let cpuid =
            CpuId::from_entries(&saved.cpuid).map_err(|_| VcpuRestoreError::TooLong(saved.cpuid.len()))?;
        self.set_features(&cpuid)?;
        self.set_tsc_rate(host, saved.tsc_khz)?;
        self.fd.set_mp_state(saved.activity).map_err(refused("set a processor's activity"))?;
        self.fd.set_regs(&saved.registers).map_err(refused("set a processor's registers"))?;
        self.fd.set_sregs(&saved.system_registers).map_err(refused("set a processor's system registers"))?;
        self.set_extended(saved)?;
        self.fd
            .set_debug_regs(&saved.debug_registers)
            .map_err(refused("set a processor's debug registers"))?;
        self.fd.set_lapic(&saved.local_apic).map_err(refused("set a local APIC"))?;
        self.write_msrs(&saved.msrs)?;
        self.fd.set_vcpu_events(&saved.events).map_err(refused("set a processor's events"))?;
        Ok(())
    }

    fn set_tsc_rate(&self, host: &Host, saved_khz: u32) -> Result<(), VcpuRestoreError> {
        let host_khz = self.fd.get_tsc_khz().map_err(refused("read the rate of time stamps"))?;
        let difference = u64::from(saved_khz.abs_diff(host_khz));
        if difference * 1_000_000 <= u64::from(host_khz) * TSC_TOLERANCE_PPM {
            return Ok(());
        }
        if saved_khz == 0 || !host.scales_time_stamps() {
            return Err(VcpuRestoreError::TimeStampRate { saved_khz, host_khz });
        }
        Ok(self.fd.set_tsc_khz(saved_khz).map_err(refused("set the rate of time stamps"))?)
    }

    fn set_extended(&self, saved: &SavedVcpu) -> Result<(), KvmError> {
        if let Some(control) = &saved.extended_control {
            self.fd.set_xcrs(control).map_err(refused("set a processor's extended control register"))?;
        }
        // SAFETY: KVM reads more than the structure's 4096 bytes only for features that a process must ask for
        // with arch_prctl before its guests may have them, which this one never does.
        unsafe { self.fd.set_xsave(&saved.extended) }.map_err(refused("set a processor's vector registers"))
    }

    /// A register that KVM refuses is no trouble if it has that value anyway: then this host lacks it altogether, or
    /// it cannot be changed.
    fn write_msrs(&self, entries: &[kvm_msr_entry]) -> Result<(), VcpuRestoreError> {
        let mut rest = entries;
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(MSRS_AT_A_TIME)];
            let msrs = Msrs::from_entries(part).expect("as many as a list may hold");
            let count = self.fd.set_msrs(&msrs).map_err(refused("set model-specific registers"))?;
            if let Some(stopped) = part.get(count) {
                let own = self.read_msrs(&[stopped.index])?;
                if own.first().is_none_or(|own| own.data != stopped.data) {
                    return Err(VcpuRestoreError::Register { index: stopped.index, value: stopped.data });
                }
            }
            rest = &rest[(count + 1).min(part.len())..];
        }
        Ok(())
    }
}

/// Equal leaf by leaf; the order is nobody's promise.
fn compare_features(host: &[kvm_cpuid_entry2], saved: &[kvm_cpuid_entry2]) -> Result<(), VcpuRestoreError> {
    let key = |entry: &kvm_cpuid_entry2| (entry.function, entry.index);
    let content = |entry: &kvm_cpuid_entry2| (entry.eax, entry.ebx, entry.ecx, entry.edx);
    let find =
        |list: &[kvm_cpuid_entry2], wanted| list.iter().find(|entry| key(entry) == wanted).map(content);
    for entry in host.iter().chain(saved) {
        if find(host, key(entry)) != find(saved, key(entry)) {
            return Err(VcpuRestoreError::Features { leaf: entry.function, subleaf: entry.index });
        }
    }
    Ok(())
}

/// Gives all processors the same time stamp, the latest: KVM keeps those together that are set to one value, and none
/// of them sees time run backwards.
pub(crate) fn align_time_stamps(vcpus: &mut [SavedVcpu]) {
    let is_tsc = |entry: &&mut kvm_msr_entry| entry.index == MSR_TSC;
    let latest =
        vcpus.iter().flat_map(|vcpu| &vcpu.msrs).filter(|msr| msr.index == MSR_TSC).map(|msr| msr.data).max();
    let Some(latest) = latest else { return };
    vcpus.iter_mut().flat_map(|vcpu| &mut vcpu.msrs).filter(is_tsc).for_each(|msr| msr.data = latest);
}

impl Machine {
    /// Interrupt chips, interval timer and clock. No processor may run meanwhile.
    ///
    /// # Errors
    /// KVM does not tell something that it should.
    pub(crate) fn save(&self) -> Result<SavedChips, KvmError> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            self.fd.get_irqchip(&mut chip).map_err(refused("read an interrupt chip"))?;
            Ok(chip)
        };
        Ok(SavedChips {
            first_pic: chip(KVM_IRQCHIP_PIC_MASTER)?,
            second_pic: chip(KVM_IRQCHIP_PIC_SLAVE)?,
            io_apic: chip(KVM_IRQCHIP_IOAPIC)?,
            interval_timer: self.fd.get_pit2().map_err(refused("read the interval timer"))?,
            clock: self.fd.get_clock().map_err(refused("read the clock"))?,
        })
    }

    /// After all processors. The guest's clock goes on where it stood; the time of day is the guest's to correct.
    ///
    /// # Errors
    /// KVM refuses a part of it.
    pub(crate) fn restore(&self, saved: &SavedChips) -> Result<(), KvmError> {
        let numbered = [
            (KVM_IRQCHIP_PIC_MASTER, &saved.first_pic),
            (KVM_IRQCHIP_PIC_SLAVE, &saved.second_pic),
            (KVM_IRQCHIP_IOAPIC, &saved.io_apic),
        ];
        for (chip_id, chip) in numbered {
            if chip.chip_id != chip_id {
                let source = io::Error::other(format!("it is chip {} instead of {chip_id}", chip.chip_id));
                return Err(KvmError::Call { step: "set an interrupt chip", source });
            }
            self.fd.set_irqchip(chip).map_err(refused("set an interrupt chip"))?;
        }
        self.fd.set_pit2(&saved.interval_timer).map_err(refused("set the interval timer"))?;
        let clock = kvm_clock_data { clock: saved.clock.clock, ..Default::default() };
        self.fd.set_clock(&clock).map_err(refused("set the clock"))
    }
}
