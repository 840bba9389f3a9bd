//! The transport's registers (virtio 1.2, section 4.2.2) and what is read from those that never change.

/// Offsets.
pub(crate) const MAGIC_VALUE: u64 = 0x000;
pub(crate) const VERSION: u64 = 0x004;
pub(crate) const DEVICE_ID: u64 = 0x008;
pub(crate) const VENDOR_ID: u64 = 0x00c;
pub(crate) const DEVICE_FEATURES: u64 = 0x010;
pub(crate) const DEVICE_FEATURES_SELECT: u64 = 0x014;
pub(crate) const DRIVER_FEATURES: u64 = 0x020;
pub(crate) const DRIVER_FEATURES_SELECT: u64 = 0x024;
pub(crate) const QUEUE_SELECT: u64 = 0x030;
pub(crate) const QUEUE_SIZE_MAX: u64 = 0x034;
pub(crate) const QUEUE_SIZE: u64 = 0x038;
pub(crate) const QUEUE_READY: u64 = 0x044;
pub(crate) const QUEUE_NOTIFY: u64 = 0x050;
pub(crate) const INTERRUPT_STATUS: u64 = 0x060;
pub(crate) const INTERRUPT_ACKNOWLEDGE: u64 = 0x064;
pub(crate) const STATUS: u64 = 0x070;
pub(crate) const QUEUE_DESCRIPTORS_LOW: u64 = 0x080;
pub(crate) const QUEUE_DESCRIPTORS_HIGH: u64 = 0x084;
pub(crate) const QUEUE_AVAILABLE_LOW: u64 = 0x090;
pub(crate) const QUEUE_AVAILABLE_HIGH: u64 = 0x094;
pub(crate) const QUEUE_USED_LOW: u64 = 0x0a0;
pub(crate) const QUEUE_USED_HIGH: u64 = 0x0a4;
/// Length and address of the selected shared memory region, 32 bits each: all ones where there is none.
pub(crate) const SHARED_MEMORY_FIRST: u64 = 0x0b0;
pub(crate) const SHARED_MEMORY_LAST: u64 = 0x0bc;
pub(crate) const CONFIG_GENERATION: u64 = 0x0fc;
/// The device's own configuration begins here and may be read in any width.
pub(crate) const CONFIG: u64 = 0x100;

/// "virt".
pub(crate) const MAGIC: u32 = 0x7472_6976;
/// Not legacy.
pub(crate) const MODERN: u32 = 2;
/// "BRTH".
pub(crate) const VENDOR: u32 = 0x4854_5242;

/// Bits of Status (section 2.1).
pub(crate) mod status {
    pub(crate) const ACKNOWLEDGE: u32 = 1;
    pub(crate) const DRIVER: u32 = 2;
    pub(crate) const DRIVER_OK: u32 = 4;
    pub(crate) const FEATURES_OK: u32 = 8;
    pub(crate) const DEVICE_NEEDS_RESET: u32 = 64;
    pub(crate) const FAILED: u32 = 128;
}
