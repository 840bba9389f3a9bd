//! The kernel's command line: what this machine needs, then what the configuration adds.

use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use super::cpuid::Virtualization;
use crate::layout::{self, COMMAND_LINE_BYTES, COMMAND_LINE_START, VIRTIO_DEVICE_BYTES};
use crate::memory::GuestMemoryMmap;

/// True of every machine on KVM:
/// - `console=hvc0`: the virtio console costs one exit a line, a serial port at least one a byte.
/// - `earlycon=...`: until that console is there, and for panics before it, the serial port.
/// - `reboot=k panic=-1`: a panic pulls the keyboard controller's reset line at once, which ends the machine.
/// - `quiet`, and first, so that the early console obeys it: the console log is for what went wrong.
const BASE: &str = "quiet console=hvc0 earlycon=uart8250,io,0x3f8 reboot=k panic=-1";

/// On software KVM, guest kernel code is interpreted, and the interpreter lacks instructions whose CPUID bits the
/// guest sees nevertheless: XSAVE and XRSTOR, STAC and CLAC, POPCNT, CMPXCHG16B, RDFSBASE and its like, CRC32 (ext4's
/// checksums), and those of the kernel's vectorised ciphers and hashes. Nor has it VERW, by which a kernel on some
/// processors, of some microcode, empties their buffers before it returns to a process. There, nothing of the guest's
/// kernel is in them.
const SOFTWARE_KVM: &str = " clearcpuid=xsave,smap,smep,popcnt,cx16,fsgsbase,ssse3,sse4_2,aes,pclmulqdq \
    mds=off tsx_async_abort=off mmio_stale_data=off reg_file_data_sampling=off tsa=off";

/// The longest part of a device's announcement.
const LONGEST_DEVICE: &str = " virtio_mmio.device=4K@0x00000000:00";

// What `layout` leaves room for.
const _: () = assert!(
    (BASE.len() + SOFTWARE_KVM.len() + 1 + layout::MAX_VIRTIO_DEVICES as usize * LONGEST_DEVICE.len()) as u64
        <= layout::OWN_COMMAND_LINE_BYTES
);

/// The whole line for a machine with `virtio_devices` devices; what is `configured` comes last and so wins.
pub(crate) fn compose(virtio_devices: u32, virtualization: Virtualization, configured: &str) -> String {
    let mut line = BASE.to_owned();
    if virtualization == Virtualization::Software {
        line += SOFTWARE_KVM;
    }
    for index in 0..virtio_devices {
        let (start, irq) = (layout::virtio_start(index), layout::virtio_irq(index));
        line += &format!(" virtio_mmio.device={}K@{start:#x}:{irq}", VIRTIO_DEVICE_BYTES / 1024);
    }
    if !configured.is_empty() {
        line.push(' ');
        line += configured;
    }
    line
}

pub(super) fn write(memory: &GuestMemoryMmap, line: &str) -> Result<(), BootError> {
    let bytes = [line.as_bytes(), &[0]].concat();
    debug_assert!(bytes.len() as u64 <= COMMAND_LINE_BYTES, "the configuration bounds its part");
    memory
        .write_slice(&bytes, GuestAddress(COMMAND_LINE_START))
        .map_err(|source| BootError::Write { what: "the command line", source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MAX_COMMAND_LINE_BYTES;

    #[test]
    fn every_device_is_announced_with_its_address_and_line() {
        let line = compose(2, Virtualization::Hardware, "root=/dev/vda");
        assert!(line.ends_with(
            " virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6 root=/dev/vda"
        ));
    }

    #[test]
    fn the_longest_line_fits() {
        let line = compose(
            layout::MAX_VIRTIO_DEVICES,
            Virtualization::Software,
            &"x".repeat(MAX_COMMAND_LINE_BYTES),
        );
        assert!((line.len() as u64) < COMMAND_LINE_BYTES, "{} bytes", line.len());
    }
}
