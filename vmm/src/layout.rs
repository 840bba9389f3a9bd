//! Where everything lies in a KVM machine's physical address space and port space, and which interrupt it has.
//!
//! Constants only. What must not overlap is checked when this file compiles.

use crate::config::{MAX_COMMAND_LINE_BYTES, MAX_DISKS, MAX_NETWORK_CARDS, MAX_SHARES, MAX_VCPUS};

/// Real-mode memory ends here; RAM starts again at [`HIGH_RAM_START`].
pub(crate) const LOW_RAM_END: u64 = 0x9_fc00;
/// Where a kernel may be loaded.
pub(crate) const HIGH_RAM_START: u64 = 0x10_0000;

/// The boot processor's tables and the kernel's boot parameters, all in low RAM.
pub(crate) const GDT_START: u64 = 0x500;
pub(crate) const GDT_BYTES: u64 = 4 * 8;
/// The "zero page": `struct boot_params` of the Linux boot protocol.
pub(crate) const BOOT_PARAMS_START: u64 = 0x7000;
pub(crate) const BOOT_PARAMS_BYTES: u64 = 0x1000;
/// The stack grows down from here.
pub(crate) const BOOT_STACK_TOP: u64 = 0x8ff0;
/// Page tables that map the first 4 GiB to themselves: PML4, PDPT, and four page directories.
pub(crate) const PAGE_TABLES_START: u64 = 0x9000;
pub(crate) const PAGE_TABLES_BYTES: u64 = 6 * PAGE_BYTES;
pub(crate) const COMMAND_LINE_START: u64 = 0x2_0000;
/// The kernel's own limit (COMMAND_LINE_SIZE on x86), with the terminating zero.
pub(crate) const COMMAND_LINE_BYTES: u64 = 2048;
/// Our own part of the line, before what the configuration adds.
pub(crate) const OWN_COMMAND_LINE_BYTES: u64 = 1152;
/// The last KiB of conventional memory is one of the places where a kernel looks for an MP table.
pub(crate) const MP_TABLE_START: u64 = LOW_RAM_END;
pub(crate) const MP_TABLE_END: u64 = 0xa_0000;

pub(crate) const PAGE_BYTES: u64 = 0x1000;
/// Below 4 GiB, this and what follows belong to devices; RAM that does not fit goes on at 4 GiB.
pub(crate) const DEVICE_GAP_START: u64 = 0xc000_0000;
pub(crate) const DEVICE_GAP_END: u64 = 0x1_0000_0000;

/// One page per virtio device (virtio 1.2, section 4.2).
pub(crate) const VIRTIO_START: u64 = 0xd000_0000;
pub(crate) const VIRTIO_DEVICE_BYTES: u64 = PAGE_BYTES;
/// Devices take interrupt lines from here on, in their order; see [`virtio_irq`].
pub(crate) const VIRTIO_FIRST_IRQ: u32 = 5;
/// Up to the I/O APIC's last.
pub(crate) const VIRTIO_LINES: u32 = IO_APIC_PINS - VIRTIO_FIRST_IRQ;
/// Every disk, card and share there can be, a vsock device, an entropy source, a console and a balloon.
#[expect(clippy::cast_possible_truncation, reason = "small constants")]
pub(crate) const MAX_VIRTIO_DEVICES: u32 = (MAX_DISKS + MAX_NETWORK_CARDS + MAX_SHARES + 4) as u32;

pub(crate) const IO_APIC_START: u32 = 0xfec0_0000;
pub(crate) const IO_APIC_PINS: u32 = 24;
pub(crate) const LOCAL_APIC_START: u32 = 0xfee0_0000;
/// Four pages that KVM needs for itself on Intel processors.
pub(crate) const KVM_IDENTITY_MAP_START: u64 = 0xfffb_c000;
pub(crate) const KVM_TSS_START: u64 = 0xfffb_d000;

/// The first serial port of a PC.
pub(crate) const SERIAL_PORT: u64 = 0x3f8;
pub(crate) const SERIAL_PORTS: u64 = 8;
pub(crate) const SERIAL_IRQ: u32 = 4;
/// The keyboard controller: its data port, its command port, and what lies between.
pub(crate) const KEYBOARD_PORT: u64 = 0x60;
pub(crate) const KEYBOARD_PORTS: u64 = 5;

/// The address of virtio device number `index`.
pub(crate) const fn virtio_start(index: u32) -> u64 {
    VIRTIO_START + index as u64 * VIRTIO_DEVICE_BYTES
}

/// The interrupt line of virtio device number `index`. Devices behind the last line share with the first ones, which
/// drivers are prepared for: each looks at its own device's interrupt status.
pub(crate) const fn virtio_irq(index: u32) -> u32 {
    VIRTIO_FIRST_IRQ + index % VIRTIO_LINES
}

const _: () = {
    assert!(GDT_START + GDT_BYTES <= BOOT_PARAMS_START);
    assert!(BOOT_PARAMS_START + BOOT_PARAMS_BYTES <= BOOT_STACK_TOP);
    assert!(BOOT_STACK_TOP <= PAGE_TABLES_START);
    assert!(PAGE_TABLES_START.is_multiple_of(PAGE_BYTES));
    assert!(PAGE_TABLES_START + PAGE_TABLES_BYTES <= COMMAND_LINE_START);
    assert!(COMMAND_LINE_START + COMMAND_LINE_BYTES <= LOW_RAM_END);
    assert!(MP_TABLE_END <= HIGH_RAM_START);
    assert!(DEVICE_GAP_START <= VIRTIO_START);
    assert!(virtio_start(MAX_VIRTIO_DEVICES) <= IO_APIC_START as u64);
    assert!(IO_APIC_START < LOCAL_APIC_START);
    assert!((LOCAL_APIC_START as u64) < KVM_IDENTITY_MAP_START);
    assert!(KVM_IDENTITY_MAP_START + PAGE_BYTES <= KVM_TSS_START);
    assert!(KVM_TSS_START + 3 * PAGE_BYTES <= DEVICE_GAP_END);
    assert!(SERIAL_IRQ < VIRTIO_FIRST_IRQ);
    assert!(virtio_irq(MAX_VIRTIO_DEVICES) < IO_APIC_PINS);
    // What we put on the command line ourselves is bounded in `boot::command_line`.
    assert!(MAX_COMMAND_LINE_BYTES as u64 + OWN_COMMAND_LINE_BYTES <= COMMAND_LINE_BYTES);
    // APIC ids are the vCPUs' numbers; the I/O APIC's comes after them and must fit in a byte.
    assert!(MAX_VCPUS < 255);
};
