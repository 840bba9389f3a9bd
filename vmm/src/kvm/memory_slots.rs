//! RAM as KVM sees it: slots, and the log of the pages in them that the guest writes.

#![expect(unsafe_code, reason = "KVM is told where guest memory is")]

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use super::{KvmError, Machine, refused};
use crate::memory::{GuestMemoryMmap, GuestRegionMmap};

/// Whether KVM keeps a log of the pages that the guest writes, which makes its first write to each slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirtyLog {
    On,
    Off,
}

pub(super) fn set_memory_slots(
    machine: &VmFd,
    memory: &GuestMemoryMmap,
    log: DirtyLog,
) -> Result<(), KvmError> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let userspace = kvm_userspace_memory_region {
            slot,
            flags: if log == DirtyLog::On { KVM_MEM_LOG_DIRTY_PAGES } else { 0 },
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr().addr() as u64,
        };
        // SAFETY: the region is a mapping of exactly this size. `Machine` keeps a handle of the memory for as
        // long as KVM can reach it, and nothing else in this process holds references into it.
        unsafe { machine.set_user_memory_region(userspace) }.map_err(refused("map guest memory"))?;
    }
    Ok(())
}

impl Machine {
    /// Starts or ends the log of pages that the guest writes.
    ///
    /// # Errors
    /// KVM refuses.
    pub(crate) fn set_dirty_log(&self, log: DirtyLog) -> Result<(), KvmError> {
        set_memory_slots(&self.fd, &self.memory, log)
    }

    /// The pages of each region that the guest has written since the log was started or last read, as a bit each: the
    /// lowest bit of the first word is the region's first page.
    ///
    /// # Errors
    /// There is no log.
    pub(crate) fn take_dirty_log(&self) -> Result<Vec<Vec<u64>>, KvmError> {
        let read = |(slot, region): (u32, &GuestRegionMmap)| {
            let bytes = usize::try_from(region.len()).expect("x86-64 addresses fit usize");
            self.fd.get_dirty_log(slot, bytes).map_err(refused("tell which pages were written"))
        };
        (0..).zip(self.memory.iter()).map(read).collect()
    }
}
