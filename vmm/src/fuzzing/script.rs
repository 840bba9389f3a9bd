//! What a hostile driver does, read from the input: a list of steps, most of which an honest one would do as well.
//!
//! A step that only an honest driver's bytes lead to, such as a request with a header that makes sense, takes a byte
//! or two, so that fuzzers come to it soon.

use super::bench::{Bench, DESCRIPTOR_BYTES, Descriptor, INDIRECT, NEXT, WRITE};
use super::guest_space::{BUFFERS, EDGES};
use super::input::Input;
use crate::virtio::mmio::registers;

/// Steps of one input: behind them nothing new is to be found.
const MAX_STEPS: usize = 200;
/// Lengths that are right or nearly so for one device or another.
const LENGTHS: [u32; 16] = [0, 1, 4, 8, 12, 16, 20, 44, 45, 64, 512, 513, 1024, 4096, 0x1_0000, u32::MAX];

/// What is particular to a device under test.
pub(super) trait Subject {
    /// What a driver sends through this queue, not too wrong, its contents chosen by the input.
    fn message(&mut self, queue: usize, input: &mut Input<'_>) -> Vec<u8>;

    /// Something happens on the host's side.
    fn host_step(&mut self, _input: &mut Input<'_>) {}

    /// After a reset, with an honest driver: the device works.
    ///
    /// # Panics
    /// It does not.
    fn probe(&mut self, bench: &mut Bench);

    /// # Panics
    /// The host's side shows that the device broke a promise.
    fn check(&mut self) {}
}

/// Plays the whole input, then checks that nothing was harmed and that a reset heals the device.
pub(super) fn play(bench: &mut Bench, subject: &mut dyn Subject, input: &[u8]) {
    bench.watch_notes(input.len().is_multiple_of(4));
    let mut input = Input::new(input);
    bench.start(feature_mask(&mut input));
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        step(bench, subject, &mut input);
    }
    bench.run();
    bench.check();
    subject.check();
    bench.start(Bench::HONEST);
    subject.probe(bench);
    bench.check();
}

/// The ring's features are switched one by one, the device's all together or by their bits.
fn feature_mask(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        0 => Bench::HONEST,
        1 => u64::MAX,
        ring => u64::from(ring) << 24 | u64::from(input.u32()),
    }
}

fn step(bench: &mut Bench, subject: &mut dyn Subject, input: &mut Input<'_>) {
    let queue = input.below(bench.queues.len());
    match input.below(10) {
        0..=2 => chain(bench, subject, queue, input),
        3 => bench.notify(u32::from(input.u8())),
        4 => descriptor(bench, queue, input),
        5 => bench.offer(queue, u16::from(input.u8())),
        6 => claim(bench, queue, input),
        7 => {
            let address = address(input);
            bench.space.write(address, input.short_bytes());
        }
        8 => register(bench, input),
        _ => {
            subject.host_step(input);
            bench.run();
        }
    }
}

/// Somewhere in memory, or where something ends.
fn address(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        0 => input.u64(),
        1 => input.one_of(&EDGES),
        2 => u64::from(input.u16()),
        page => BUFFERS.start + u64::from(page) * 0x100,
    }
}

fn length(input: &mut Input<'_>) -> u32 {
    match input.u8() {
        0 => input.u32(),
        1 => u32::from(input.u16()),
        choice => LENGTHS[usize::from(choice) % LENGTHS.len()],
    }
}

fn descriptor(bench: &mut Bench, queue: usize, input: &mut Input<'_>) {
    let slot = u16::from(input.u8());
    let flags = u16::from(input.u8() & 7);
    let next = u16::from(input.u8());
    let descriptor = Descriptor { address: address(input), length: length(input), flags, next };
    bench.describe(queue, slot, &descriptor.encode());
}

/// Claims that more chains are available, or fewer, than the ring was filled with.
fn claim(bench: &mut Bench, queue: usize, input: &mut Input<'_>) {
    let available = bench.queues[queue].available;
    let flags = u16::from(input.u8() & 1);
    let index = match input.u8() {
        0 => input.u16(),
        more => bench.queues[queue].offered.wrapping_add(u16::from(more)),
    };
    bench.queues[queue].offered = index;
    bench.space.write(available, &[flags.to_le_bytes(), index.to_le_bytes()].concat());
}

/// Reads or writes a register. A reset by the driver is followed by an honest start.
fn register(bench: &mut Bench, input: &mut Input<'_>) {
    let offset = 4 * u64::from(input.u8());
    match input.u8() % 4 {
        0 => bench.read_any(offset, 4),
        1 => bench.read_any(registers::CONFIG + u64::from(input.u16()), input.one_of(&[1, 2, 4, 8])),
        _ => match input.u32() {
            0 if offset == registers::STATUS => bench.start(feature_mask(input)),
            // Notifications let the device work: see `Bench::notify`.
            value if offset == registers::QUEUE_NOTIFY => bench.notify(value),
            value => bench.write(offset, value),
        },
    }
}

/// A chain as drivers build them; bits of its shape say in what it differs from an honest one.
fn chain(bench: &mut Bench, subject: &mut dyn Subject, queue: usize, input: &mut Input<'_>) {
    const IS_SENT: u8 = 1;
    const IS_SPLIT: u8 = 2;
    const IS_REVERSED: u8 = 16;
    const IS_INDIRECT: u8 = 32;
    const IS_BENT: u8 = 64;
    const IS_QUIET: u8 = 128;
    let shape = input.u8();
    let mut parts: Vec<Descriptor> = Vec::new();
    if shape & IS_SENT != 0 {
        let message = subject.message(queue, input);
        let at = if shape & IS_SPLIT != 0 { input.below(message.len() + 1) } else { message.len() };
        let (head, tail) = message.split_at(at);
        for bytes in [head, tail].into_iter().filter(|bytes| !bytes.is_empty()) {
            let address = bench.reserve(bytes.len());
            bench.space.write(address, bytes);
            let length = u32::try_from(bytes.len()).expect("messages are small");
            parts.push(Descriptor { address, length, flags: 0, next: 0 });
        }
    }
    for _ in 0..shape >> 2 & 3 {
        let length = length(input);
        let address = bench.reserve(length.min(0x1000) as usize);
        parts.push(Descriptor { address, length, flags: WRITE, next: 0 });
    }
    if shape & IS_REVERSED != 0 {
        parts.reverse();
    }
    if parts.is_empty() {
        return;
    }
    let indirect = shape & IS_INDIRECT != 0;
    link(bench, queue, &mut parts, indirect);
    if shape & IS_BENT != 0 {
        bend(&mut parts, input);
    }
    put(bench, queue, &parts, indirect);
    if shape & IS_QUIET == 0 {
        bench.notify(u32::try_from(queue).expect("few queues"));
    }
}

/// Connects each descriptor to the one behind it.
fn link(bench: &Bench, queue: usize, parts: &mut [Descriptor], indirect: bool) {
    let place = bench.queues[queue];
    let first = if indirect { 0 } else { place.next_slot };
    let last = parts.len() - 1;
    for (index, part) in parts.iter_mut().enumerate() {
        if index < last {
            part.flags |= NEXT;
            let next = first + u16::try_from(index + 1).expect("few parts");
            part.next = if indirect { next } else { next % place.size };
        }
    }
}

/// Changes one thing about one descriptor.
fn bend(parts: &mut [Descriptor], input: &mut Input<'_>) {
    let index = input.below(parts.len());
    let part = &mut parts[index];
    match input.u8() % 4 {
        0 => part.address = address(input),
        1 => part.length = length(input),
        2 => part.flags ^= u16::from(input.u8() & 7),
        _ => part.next = input.u16(),
    }
}

fn put(bench: &mut Bench, queue: usize, parts: &[Descriptor], indirect: bool) {
    let head = bench.queues[queue].next_slot;
    if indirect {
        let table: Vec<u8> = parts.iter().flat_map(|part| part.encode()).collect();
        let address = bench.reserve(table.len());
        bench.space.write(address, &table);
        let length = u32::try_from(table.len()).expect("few parts of 16 bytes");
        debug_assert!(u64::from(length).is_multiple_of(DESCRIPTOR_BYTES));
        let slot = bench.next_slot(queue);
        bench.describe(queue, slot, &Descriptor { address, length, flags: INDIRECT, next: 0 }.encode());
    } else {
        for part in parts {
            let slot = bench.next_slot(queue);
            bench.describe(queue, slot, &part.encode());
        }
    }
    bench.offer(queue, head);
}
