//! What the guest's CPUID says: all that KVM offers on this host, and each processor's own place.
//!
//! What KVM leaves out stays out: on software KVM the guest would meet instructions that nobody executes. Some of
//! them it shows to guests all the same, whatever is set here: see `command_line`.

use std::arch::x86_64::__cpuid;

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use crate::config::{CpuidLeaf, MAX_CPUID_LEAVES};
use crate::kvm::{Host, KvmError};
use serde::{Deserialize, Serialize};

/// Leaves (Intel SDM 2A, CPUID; AMD APM 3, appendix E; KVM's cpuid.rst).
const FEATURES: u32 = 0x1;
const CACHES: u32 = 0x4;
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_V2: u32 = 0x1f;
const KVM_FEATURES: u32 = 0x4000_0001;
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_TOPOLOGY: u32 = 0x8000_001e;
const AMD_TOPOLOGY_V2: u32 = 0x8000_0026;

const FEATURES_ECX_VMX: u32 = 1 << 5;
const FEATURES_ECX_TSC_DEADLINE: u32 = 1 << 24;
const FEATURES_ECX_HYPERVISOR: u32 = 1 << 31;
const FEATURES_EDX_HYPER_THREADING: u32 = 1 << 28;
const AMD_LAST_LEAF: u32 = 0x8000_0000;
const AMD_FEATURES: u32 = 0x8000_0001;
const AMD_FEATURES_ECX_SVM: u32 = 1 << 2;
/// Paravirtual features whose hypercall a software KVM never completes: unhalting, sending interrupts, yielding.
const KVM_FEATURES_WITH_HYPERCALLS: u32 = 1 << 7 | 1 << 11 | 1 << 13;

/// What runs guest kernel code on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Virtualization {
    /// The processor: VMX or SVM.
    Hardware,
    /// An interpreter in the host's kernel.
    Software,
}

impl Virtualization {
    /// KVM without VMX or SVM can only be a software one.
    pub(crate) fn of_this_host() -> Self {
        let has_vmx = || __cpuid(FEATURES).ecx & FEATURES_ECX_VMX != 0;
        let has_amd_features = || __cpuid(AMD_LAST_LEAF).eax >= AMD_FEATURES;
        let has_svm = || has_amd_features() && __cpuid(AMD_FEATURES).ecx & AMD_FEATURES_ECX_SVM != 0;
        if has_vmx() || has_svm() { Self::Hardware } else { Self::Software }
    }
}

/// How the host runs guests, as far as the guest's CPUID depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostTraits {
    pub(crate) has_tsc_deadline_timer: bool,
    pub(crate) virtualization: Virtualization,
}

/// What KVM offers on this host: as it was handed on, or asked for.
pub(crate) fn supported(host: &Host, known: &[CpuidLeaf]) -> Result<CpuId, KvmError> {
    if known.is_empty() { host.supported_cpuid() } else { Ok(from_leaves(known)) }
}

fn from_leaves(leaves: &[CpuidLeaf]) -> CpuId {
    let entry = |&[function, index, flags, eax, ebx, ecx, edx]: &CpuidLeaf| kvm_cpuid_entry2 {
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    };
    let entries: Vec<kvm_cpuid_entry2> = leaves.iter().take(MAX_CPUID_LEAVES).map(entry).collect();
    CpuId::from_entries(&entries).expect("as many as a list may have")
}

/// To be handed on to later machines of this host.
pub(crate) fn to_leaves(cpuid: &CpuId) -> Vec<CpuidLeaf> {
    let leaf = |e: &kvm_cpuid_entry2| [e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx];
    cpuid.as_slice().iter().map(leaf).collect()
}

/// The CPUID of processor `id` of `vcpus`, made from what KVM supports. All processors are cores of one socket.
pub(crate) fn for_vcpu(supported: &CpuId, id: u8, vcpus: u8, host: HostTraits) -> CpuId {
    let mut entries: Vec<kvm_cpuid_entry2> = supported.as_slice().to_vec();
    entries.retain(|entry| !matches!(entry.function, TOPOLOGY | TOPOLOGY_V2 | AMD_TOPOLOGY_V2));
    for entry in &mut entries {
        adapt(entry, id, vcpus, host);
    }
    if entries.iter().any(|entry| entry.function == 0 && entry.eax >= TOPOLOGY) {
        entries.extend(topology(id, vcpus));
    }
    CpuId::from_entries(&entries).expect("two entries more than a list of KVM's, which is far from full")
}

fn adapt(entry: &mut kvm_cpuid_entry2, id: u8, vcpus: u8, host: HostTraits) {
    let last_core = u32::from(vcpus) - 1;
    match entry.function {
        FEATURES => {
            entry.ebx = entry.ebx & 0xffff | u32::from(vcpus) << 16 | u32::from(id) << 24;
            entry.ecx |= FEATURES_ECX_HYPERVISOR;
            if host.has_tsc_deadline_timer {
                entry.ecx |= FEATURES_ECX_TSC_DEADLINE;
            }
            if vcpus > 1 {
                entry.edx |= FEATURES_EDX_HYPER_THREADING;
            }
        }
        // Bits 31:26 count the cores of the package, 25:14 those that share this cache: the first two levels
        // belong to a core, the others to all.
        CACHES if entry.eax & 0x1f != 0 => {
            let level = entry.eax >> 5 & 0x7;
            let sharing = if level > 2 { last_core } else { 0 };
            entry.eax = entry.eax & 0x3fff | last_core << 26 | sharing << 14;
        }
        KVM_FEATURES if host.virtualization == Virtualization::Software => {
            entry.eax &= !KVM_FEATURES_WITH_HYPERCALLS;
        }
        AMD_SIZES => entry.ecx = entry.ecx & !0xf0ff | last_core | apic_id_bits(vcpus) << 12,
        AMD_TOPOLOGY => {
            entry.eax = id.into();
            entry.ebx = id.into();
            entry.ecx = 0;
        }
        _ => {}
    }
}

/// Leaf 0xb: one thread a core, all cores in one package.
fn topology(id: u8, vcpus: u8) -> [kvm_cpuid_entry2; 2] {
    const THREAD_LEVEL: u32 = 1 << 8;
    const CORE_LEVEL: u32 = 2 << 8;
    let level = |index: u32, shift: u32, count: u32, kind: u32| kvm_cpuid_entry2 {
        function: TOPOLOGY,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: index | kind,
        edx: id.into(),
        ..Default::default()
    };
    [level(0, 0, 1, THREAD_LEVEL), level(1, apic_id_bits(vcpus), vcpus.into(), CORE_LEVEL)]
}

/// How many bits number the processors.
fn apic_id_bits(vcpus: u8) -> u32 {
    u8::BITS - (vcpus - 1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: HostTraits =
        HostTraits { has_tsc_deadline_timer: true, virtualization: Virtualization::Hardware };
    const SOFTWARE: HostTraits =
        HostTraits { has_tsc_deadline_timer: true, virtualization: Virtualization::Software };

    fn offered() -> CpuId {
        let leaf = |function, eax| kvm_cpuid_entry2 { function, eax, ..Default::default() };
        let leaves = [
            leaf(0, 0x20),
            leaf(FEATURES, 0x806f8),
            leaf(CACHES, 3 << 5 | 3),
            leaf(TOPOLOGY, 7),
            leaf(KVM_FEATURES, u32::MAX),
        ];
        CpuId::from_entries(&leaves).unwrap()
    }

    fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid.as_slice().iter().find(|entry| (entry.function, entry.index) == (function, index)).unwrap()
    }

    #[test]
    fn what_is_handed_on_is_what_kvm_said() {
        let leaves = to_leaves(&offered());
        assert_eq!(leaves.len(), 5);
        assert_eq!(from_leaves(&leaves).as_slice(), offered().as_slice());
        assert_eq!(from_leaves(&[leaves[0]; 200]).as_slice().len(), MAX_CPUID_LEAVES);
    }

    #[test]
    fn each_processor_finds_its_own_number() {
        let cpuid = for_vcpu(&offered(), 5, 6, HARDWARE);
        assert_eq!(find(&cpuid, FEATURES, 0).ebx, 5 << 24 | 6 << 16);
        assert_eq!(find(&cpuid, TOPOLOGY, 0).edx, 5);
        let cores = find(&cpuid, TOPOLOGY, 1);
        assert_eq!((cores.eax, cores.ebx, cores.ecx, cores.edx), (3, 6, 0x201, 5));
        assert_eq!(cpuid.as_slice().iter().filter(|entry| entry.function == TOPOLOGY).count(), 2);
        // The third-level cache is shared by all six.
        assert_eq!(find(&cpuid, CACHES, 0).eax >> 14, 5 << 12 | 5);
    }

    #[test]
    fn apic_ids_have_as_many_bits_as_they_need() {
        assert_eq!([1, 2, 3, 4, 5, 32].map(apic_id_bits), [0, 1, 2, 2, 3, 5]);
    }

    #[test]
    fn software_kvm_offers_no_hypercalls() {
        let eax = |host| find(&for_vcpu(&offered(), 0, 1, host), KVM_FEATURES, 0).eax;
        assert_eq!(eax(SOFTWARE), !KVM_FEATURES_WITH_HYPERCALLS);
        assert_eq!(eax(HARDWARE), u32::MAX);
    }
}
