//! The configuration space behind the registers.

use vm_memory::{Bytes, GuestAddress};

use super::{AVAILABLE, Bench, Mirror};
use crate::bus::BusDevice;
use crate::virtio::mmio::registers;

#[test]
fn configuration_is_read_in_any_width_and_ends_in_zeros() {
    let bench = Bench::new(Mirror::new());
    let mut data = [0xaa; 8];
    bench.device.read(registers::CONFIG, &mut data);
    assert_eq!(&data, b"config\0\0");
    let mut byte = [0xaa];
    bench.device.read(registers::CONFIG + 3, &mut byte);
    assert_eq!(&byte, b"f");
    bench.device.read(registers::CONFIG + 0xe00, &mut byte);
    assert_eq!(byte, [0]);
}

#[test]
fn configuration_is_written_by_the_byte_and_nothing_lies_behind_it() {
    let bench = Bench::new(Mirror::new());
    bench.device.write(registers::CONFIG, b"C");
    bench.device.write(registers::CONFIG + 6, b"x");
    bench.device.write(u64::MAX, b"x");
    let mut data = [0xaa; 8];
    bench.device.read(registers::CONFIG, &mut data);
    assert_eq!(&data, b"Config\0\0");
}

#[test]
fn a_changed_configuration_has_a_generation_and_an_interrupt_of_its_own() {
    let bench = Bench::active(Mirror { config_changes: true, ..Mirror::new() });
    // VIRTQ_AVAIL_F_NO_INTERRUPT is about buffers.
    bench.memory.write_obj(1u16, GuestAddress(AVAILABLE)).unwrap();
    let before = bench.read(registers::CONFIG_GENERATION);
    bench.offer(0, 1);
    bench.device.notified(0);
    assert_ne!(bench.read(registers::CONFIG_GENERATION), before);
    assert_eq!(bench.interrupt.read().unwrap(), 1);
    assert_eq!(bench.read(registers::INTERRUPT_STATUS), 2);
}
