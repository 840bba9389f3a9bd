//! The transport's registers in any order, width and value: nothing leads to a device that no reset heals.

use super::bench::Bench;
use super::input::Input;
use crate::virtio::Rng;
use crate::virtio::mmio::registers::{self, status};

const MAX_STEPS: usize = 400;

/// Registers that lead somewhere: the first in the order of an honest start.
const KNOWN: [u64; 17] = [
    registers::STATUS,
    registers::DRIVER_FEATURES_SELECT,
    registers::DRIVER_FEATURES,
    registers::QUEUE_SELECT,
    registers::QUEUE_SIZE,
    registers::QUEUE_DESCRIPTORS_LOW,
    registers::QUEUE_DESCRIPTORS_HIGH,
    registers::QUEUE_AVAILABLE_LOW,
    registers::QUEUE_AVAILABLE_HIGH,
    registers::QUEUE_USED_LOW,
    registers::QUEUE_USED_HIGH,
    registers::QUEUE_READY,
    registers::QUEUE_NOTIFY,
    registers::DEVICE_FEATURES_SELECT,
    registers::INTERRUPT_ACKNOWLEDGE,
    registers::INTERRUPT_STATUS,
    registers::CONFIG_GENERATION,
];

/// Register accesses, and what they make the device do with a memory full of what the input says.
pub(super) fn registers(input: &[u8]) {
    let mut bench = Bench::new(Box::new(Rng));
    // The queues may be anywhere.
    bench.writes_anywhere();
    bench.watch_notes(input.len().is_multiple_of(4));
    let mut input = Input::new(input);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut bench, &mut input);
    }
    bench.run();
    bench.check();
    let status = bench.status();
    let order = [status::DRIVER_OK, status::FEATURES_OK, status::DRIVER, status::ACKNOWLEDGE];
    let reached = order.iter().skip_while(|bit| status & **bit == 0);
    assert!(reached.into_iter().all(|bit| status & bit != 0), "{status:#x}: no step was left out");
    bench.start(Bench::HONEST);
    let answer = bench.request(0, &[], &[64]).expect("an honest driver is served");
    assert_eq!(answer.length, 64);
    bench.check();
}

fn step(bench: &mut Bench, input: &mut Input<'_>) {
    let register = input.u8();
    let known = KNOWN[usize::from(register) % KNOWN.len()];
    match register / 32 {
        // Of another width, somewhere in the device's page.
        0 => {
            let offset = u64::from(input.u16() & 0xfff);
            bench.write_any(offset, &input.u64().to_le_bytes()[..input.one_of(&[1, 2, 4, 8])]);
        }
        1 => bench.read_any(u64::from(input.u16() & 0xfff), input.one_of(&[1, 2, 4, 8])),
        2 => drop(bench.read(known)),
        3 => bench.space.write(u64::from(input.u16()), input.short_bytes()),
        4 => bench.run(),
        5 => bench.write(known, input.u32()),
        6 => bench.write(known, u32::from(input.u16()) << 4),
        _ => bench.write(known, u32::from(input.u8())),
    }
}
