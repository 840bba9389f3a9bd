//! The transport's registers (virtio 1.2, section 4.2.2) and what is read from those that never change.

/// Offsets.
pub(super) const MAGIC_VALUE: u64 = 0x000;
pub(super) const VERSION: u64 = 0x004;
pub(super) const DEVICE_ID: u64 = 0x008;
pub(super) const VENDOR_ID: u64 = 0x00c;
pub(super) const DEVICE_FEATURES: u64 = 0x010;
pub(super) const DEVICE_FEATURES_SELECT: u64 = 0x014;
pub(super) const DRIVER_FEATURES: u64 = 0x020;
pub(super) const DRIVER_FEATURES_SELECT: u64 = 0x024;
pub(super) const QUEUE_SELECT: u64 = 0x030;
pub(super) const QUEUE_SIZE_MAX: u64 = 0x034;
pub(super) const QUEUE_SIZE: u64 = 0x038;
pub(super) const QUEUE_READY: u64 = 0x044;
pub(crate) const QUEUE_NOTIFY: u64 = 0x050;
pub(super) const INTERRUPT_STATUS: u64 = 0x060;
pub(super) const INTERRUPT_ACKNOWLEDGE: u64 = 0x064;
pub(super) const STATUS: u64 = 0x070;
pub(super) const QUEUE_DESCRIPTORS_LOW: u64 = 0x080;
pub(super) const QUEUE_DESCRIPTORS_HIGH: u64 = 0x084;
pub(super) const QUEUE_AVAILABLE_LOW: u64 = 0x090;
pub(super) const QUEUE_AVAILABLE_HIGH: u64 = 0x094;
pub(super) const QUEUE_USED_LOW: u64 = 0x0a0;
pub(super) const QUEUE_USED_HIGH: u64 = 0x0a4;
/// Length and address of the selected shared memory region, 32 bits each: all ones where there is none.
pub(super) const SHARED_MEMORY_FIRST: u64 = 0x0b0;
pub(super) const SHARED_MEMORY_LAST: u64 = 0x0bc;
pub(super) const CONFIG_GENERATION: u64 = 0x0fc;
/// The device's own configuration begins here and may be read in any width.
pub(super) const CONFIG: u64 = 0x100;

/// "virt".
pub(super) const MAGIC: u32 = 0x7472_6976;
/// Not legacy.
pub(super) const MODERN: u32 = 2;
/// "BRTH".
pub(super) const VENDOR: u32 = 0x4854_5242;

/// Bits of Status (section 2.1).
pub(super) mod status {
    pub(crate) const ACKNOWLEDGE: u32 = 1;
    pub(crate) const DRIVER: u32 = 2;
    pub(crate) const DRIVER_OK: u32 = 4;
    pub(crate) const FEATURES_OK: u32 = 8;
    pub(crate) const DEVICE_NEEDS_RESET: u32 = 64;
    pub(crate) const FAILED: u32 = 128;
}
