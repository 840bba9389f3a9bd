//! Descriptor chains: what the guest put into a queue, checked once and made into plain lists of segments.
//!
//! After [`pop`] every segment lies in guest memory, lists are bounded, and the order of the specification
//! (virtio 1.2, section 2.7.4: device-readable parts first) holds. What the bytes mean is the device's business.

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::bitmap::Bitmap;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend};

use super::Broken;
use crate::memory::{GuestMemoryMmap, VolatileSlice};

/// The most segments one chain may have: what our devices announce, and room for drivers that split more.
pub(crate) const MAX_SEGMENTS: usize = 256;

/// A contiguous piece of a chain, in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    address: GuestAddress,
    length: usize,
}

/// One side of a chain: readable or writable by the device, as one run of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segments {
    list: Vec<Segment>,
    length: usize,
    is_for_writing: bool,
}

/// Buffers the driver made available under one descriptor head. An empty one is room for [`pop_into`].
#[derive(Debug, Default)]
pub(crate) struct Chain {
    head: u16,
    pub(crate) readable: Segments,
    pub(crate) writable: Segments,
}

/// Takes the next chain from the queue; `None` when the driver has offered no more, or the queue is not set up.
///
/// # Errors
/// An available ring or a chain that breaks the rules: the queue cannot be trusted any more.
pub(crate) fn pop(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<Option<Chain>, Broken> {
    let mut chain = Chain::default();
    Ok(pop_into(&mut chain, queue, memory)?.then_some(chain))
}

/// As [`pop`], into a chain that is there already: after a while nothing is allocated any more.
///
/// # Errors
/// As [`pop`]; what is in `chain` then means nothing.
pub(crate) fn pop_into(
    chain: &mut Chain,
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
) -> Result<bool, Broken> {
    if !queue.ready() {
        return Ok(false);
    }
    let mut available = queue.iter(memory).map_err(|e| Broken(format!("available ring: {e}")))?;
    let Some(descriptors) = available.next() else { return Ok(false) };
    chain.begin(descriptors.head_index());
    let mut complete = false;
    for (index, descriptor) in descriptors.enumerate() {
        // Empty ones count: a table of 65535 of them costs as much to walk as a full one.
        if index == MAX_SEGMENTS {
            return Err(Broken(format!("a chain of more than {MAX_SEGMENTS} descriptors")));
        }
        let length = descriptor.len() as usize;
        let segment = Segment { address: descriptor.addr(), length };
        chain.add(segment, descriptor.is_write_only(), memory)?;
        complete = !descriptor.has_next();
    }
    if complete { Ok(true) } else { Err(Broken("a descriptor chain without an end".into())) }
}

/// Puts the chain that was popped last back, as if it had not been taken.
pub(crate) fn unpop(queue: &mut Queue) {
    queue.go_to_previous_position();
}

/// Answers every chain of the queue, those that arrive meanwhile too; `answer` gives the number of bytes written.
/// Whether there was any is the result.
///
/// # Errors
/// What `answer` returned, or rings that break the rules.
pub(crate) fn answer_all(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    mut answer: impl FnMut(&Chain) -> Result<usize, Broken>,
) -> Result<bool, Broken> {
    let mut any = false;
    if !queue.ready() {
        return Ok(any);
    }
    loop {
        silence(queue, memory)?;
        while let Some(chain) = pop(queue, memory)? {
            let written = answer(&chain)?;
            complete(queue, memory, &chain, written)?;
            any = true;
        }
        if !listen(queue, memory)? {
            return Ok(any);
        }
    }
}

/// Asks the driver not to notify: the device is looking at the queue anyway.
pub(crate) fn silence(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<(), Broken> {
    if !queue.ready() {
        return Ok(());
    }
    queue.disable_notification(memory).map_err(|e| Broken(format!("used ring: {e}")))
}

/// Asks the driver to notify again; true if chains arrived before it could know.
pub(crate) fn listen(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
    if !queue.ready() {
        return Ok(false);
    }
    queue.enable_notification(memory).map_err(|e| Broken(format!("available ring: {e}")))
}

/// Hands a chain back to the driver, of which the device has written the first `written` bytes.
///
/// # Errors
/// A used ring outside guest memory.
pub(crate) fn complete(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    chain: &Chain,
    written: usize,
) -> Result<(), Broken> {
    let written = u32::try_from(written).unwrap_or(u32::MAX);
    queue.add_used(memory, chain.head, written).map_err(|e| Broken(format!("used ring: {e}")))
}

/// Hands several chains back, of which the driver sees all or none: one frame that fills them one after the other.
/// Each comes with the number of bytes written. To ask whether the driver wants to hear of it, see
/// [`is_interrupt_due`].
///
/// # Errors
/// A used ring outside guest memory.
pub(crate) fn complete_together<'c>(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    mut chains: impl ExactSizeIterator<Item = (&'c Chain, usize)>,
) -> Result<(), Broken> {
    const RING_HEADER_BYTES: u64 = 4;
    const ELEMENT_BYTES: u64 = 8;
    while let Some((chain, written)) = chains.next() {
        if chains.len() == 0 {
            return complete(queue, memory, chain, written);
        }
        // What the driver does not look at before the index, which the last one moves, says that it is there.
        let slot = u64::from(queue.next_used() % queue.size());
        let place = GuestAddress(queue.used_ring()).checked_add(RING_HEADER_BYTES + slot * ELEMENT_BYTES);
        let element = [u32::from(chain.head), u32::try_from(written).unwrap_or(u32::MAX)].map(u32::to_le);
        let outside = || Broken("used ring: outside memory".into());
        memory.write_obj(element, place.ok_or_else(outside)?).map_err(|_| outside())?;
        queue.set_next_used(queue.next_used().wrapping_add(1));
    }
    Ok(())
}

/// Whether the driver, which set an event index, wants to hear that the used index moved on from `before`. The queue
/// itself knows of those chains only that were completed one by one.
///
/// # Errors
/// An available ring outside guest memory.
pub(crate) fn is_interrupt_due(queue: &Queue, memory: &GuestMemoryMmap, before: u16) -> Result<bool, Broken> {
    if !queue.ready() || !queue.event_idx_enabled() {
        return Ok(false);
    }
    // Behind the ring's two header fields and its elements (virtio 1.2, section 2.7.6).
    let place = GuestAddress(queue.avail_ring()).checked_add(4 + 2 * u64::from(queue.size()));
    let outside = || Broken("available ring: outside memory".into());
    // The used index must be there before the driver is asked (section 2.7.7.2).
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    let event: u16 = memory.read_obj(place.ok_or_else(outside)?).map_err(|_| outside())?;
    let now = queue.next_used();
    Ok(now.wrapping_sub(u16::from_le(event)).wrapping_sub(1) < now.wrapping_sub(before))
}

impl Chain {
    /// Forgets what it was, and keeps the room.
    fn begin(&mut self, head: u16) {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
        self.writable.is_for_writing = true;
    }

    fn add(&mut self, segment: Segment, writable: bool, memory: &GuestMemoryMmap) -> Result<(), Broken> {
        if segment.length == 0 {
            return Ok(());
        }
        if !memory.check_range(segment.address, segment.length) {
            return Err(Broken(format!("a descriptor outside memory, at {:#x}", segment.address.0)));
        }
        if !writable && self.writable.length > 0 {
            return Err(Broken("a readable descriptor behind a writable one".into()));
        }
        let side = if writable { &mut self.writable } else { &mut self.readable };
        side.push(segment);
        Ok(())
    }
}

impl Segments {
    fn clear(&mut self) {
        self.list.clear();
        self.length = 0;
    }

    fn push(&mut self, segment: Segment) {
        self.length += segment.length;
        self.list.push(segment);
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Where the segments lie, in their order: address and length in bytes.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (GuestAddress, usize)> {
        self.list.iter().map(|segment| (segment.address, segment.length))
    }

    /// `length` bytes from `start` on, or as many of them as there are.
    pub(crate) fn range(&self, start: usize, length: usize) -> Self {
        let mut range = Self { is_for_writing: self.is_for_writing, ..Self::default() };
        let (mut skip, mut want) = (start, length);
        for segment in &self.list {
            let skipped = skip.min(segment.length);
            skip -= skipped;
            let taken = want.min(segment.length - skipped);
            if taken > 0 {
                let address = GuestAddress(segment.address.0 + skipped as u64);
                range.push(Segment { address, length: taken });
                want -= taken;
            }
        }
        range
    }

    /// Copies the first bytes out of guest memory; exactly `into.len()` must be there.
    pub(crate) fn read(&self, memory: &GuestMemoryMmap, into: &mut [u8]) -> Result<(), Broken> {
        if into.len() > self.length {
            return Err(Broken(format!("{} bytes where {} are needed", self.length, into.len())));
        }
        let mut rest = into;
        for segment in &self.list {
            let (part, behind) = rest.split_at_mut(segment.length.min(rest.len()));
            memory.read_slice(part, segment.address).map_err(|e| Broken(format!("guest memory: {e}")))?;
            rest = behind;
        }
        Ok(())
    }

    /// Copies `from` to the first bytes in guest memory; there must be room for all of it.
    pub(crate) fn write(&self, memory: &GuestMemoryMmap, from: &[u8]) -> Result<(), Broken> {
        if from.len() > self.length {
            return Err(Broken(format!("room for {} bytes where {} are needed", self.length, from.len())));
        }
        let mut rest = from;
        for segment in &self.list {
            let (part, behind) = rest.split_at(segment.length.min(rest.len()));
            memory.write_slice(part, segment.address).map_err(|e| Broken(format!("guest memory: {e}")))?;
            rest = behind;
        }
        Ok(())
    }

    /// Copies `from` to guest memory, from byte `start` of the segments on; there must be room for all of it.
    pub(crate) fn write_at(
        &self,
        memory: &GuestMemoryMmap,
        start: usize,
        mut from: &[u8],
    ) -> Result<(), Broken> {
        self.each_slice(memory, start, |slice| {
            let part = slice.len().min(from.len());
            slice.copy_from(&from[..part]);
            from = &from[part..];
        })?;
        if from.is_empty() { Ok(()) } else { Err(Broken(format!("{} bytes too many", from.len()))) }
    }

    /// Appends the segments' host-side views to `slices`, for vectored system calls. What the device may write counts
    /// as written from here on: nobody else sees what the kernel does with it.
    pub(crate) fn slices<'m>(
        &self,
        memory: &'m GuestMemoryMmap,
        slices: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<(), Broken> {
        self.each_slice(memory, 0, |slice| slices.push(slice))
    }

    /// Hands out the segments' host-side views without the first `skip` bytes, as [`Self::slices`] does.
    pub(crate) fn each_slice<'m>(
        &self,
        memory: &'m GuestMemoryMmap,
        mut skip: usize,
        mut take: impl FnMut(VolatileSlice<'m>),
    ) -> Result<(), Broken> {
        for segment in &self.list {
            let skipped = skip.min(segment.length);
            skip -= skipped;
            let address = GuestAddress(segment.address.0 + skipped as u64);
            for slice in GuestMemoryBackend::get_slices(memory, address, segment.length - skipped) {
                let slice = slice.map_err(|e| Broken(format!("guest memory: {e}")))?;
                if self.is_for_writing {
                    slice.bitmap().mark_dirty(0, slice.len());
                }
                take(slice);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use virtio_queue::desc::split::Descriptor;

    use super::*;
    use crate::virtio::test_driver::{self, Driver, INDIRECT, NEXT, WRITE};

    /// What becomes of an indirect table of these descriptors: (address, length, flags).
    fn popped(table: &[(u64, u32, u16)]) -> Result<Chain, Broken> {
        let memory = test_driver::memory(1);
        let (mut driver, mut queue) = Driver::new(&memory, 0);
        let mut bytes = Vec::new();
        for (next, (address, length, flags)) in (1u16..).zip(table) {
            bytes.extend(address.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend([*flags, next].map(u16::to_le_bytes).as_flattened());
        }
        let address = driver.place(&bytes);
        let length = u32::try_from(bytes.len()).unwrap();
        driver.describe(0, Descriptor::new(address, length, INDIRECT, 0));
        driver.make_available(0);
        pop(&mut queue, &memory).map(|chain| chain.expect("one was offered"))
    }

    #[track_caller]
    fn refuses(table: &[(u64, u32, u16)], why: &str) {
        let refusal = popped(table).unwrap_err().to_string();
        assert!(refusal.contains(why), "{refusal}");
    }

    #[test]
    fn readable_and_writable_parts_come_apart_and_empty_ones_are_nothing() {
        let table = [(0x5000, 8, NEXT), (0, 0, NEXT | WRITE), (0x6000, 4, NEXT), (0x7000, 16, WRITE)];
        let chain = popped(&table).unwrap();
        assert_eq!((chain.readable.len(), chain.writable.len()), (12, 16));
    }

    #[test]
    fn chains_of_too_many_descriptors_are_refused_empty_or_not() {
        for length in [0, 1] {
            let mut table = vec![(0x5000, length, NEXT); MAX_SEGMENTS + 1];
            refuses(&table, "more than 256");
            table.truncate(MAX_SEGMENTS);
            table[MAX_SEGMENTS - 1].2 = 0;
            assert_eq!(popped(&table).unwrap().readable.len(), MAX_SEGMENTS * length as usize);
        }
    }

    #[test]
    fn chains_that_break_the_rules_are_refused() {
        refuses(&[(0x5000, 1, NEXT | WRITE), (0x6000, 1, 0)], "behind a writable one");
        refuses(&[(1 << 20, 1, 0)], "outside memory");
        refuses(&[((1 << 20) - 1, 2, 0)], "outside memory");
        refuses(&[(u64::MAX, 2, 0)], "outside memory");
        refuses(&[(0x5000, 1, NEXT)], "without an end");
        // A table inside a table.
        refuses(&[(0x5000, 1, NEXT), (0x6000, 16, INDIRECT)], "without an end");
    }

    #[test]
    fn chains_of_one_frame_come_back_in_order_and_at_once() {
        let memory = test_driver::memory(1);
        let (mut driver, mut queue) = Driver::new(&memory, 0);
        // The ring's end is between them: 64 places.
        for _ in 0..62 {
            driver.offer(&[], &[8]);
            let chain = pop(&mut queue, &memory).unwrap().unwrap();
            complete(&mut queue, &memory, &chain, 0).unwrap();
        }
        assert_eq!(driver.returned().len(), 62);
        let offers = [8, 8, 8, 8].map(|room| driver.offer(&[], &[room]).head);
        let chains = offers.map(|_| pop(&mut queue, &memory).unwrap().unwrap());
        complete_together(&mut queue, &memory, chains.iter().zip([8, 8, 8, 3])).unwrap();
        let [a, b, c, d] = offers;
        assert_eq!(driver.returned(), [(a, 8), (b, 8), (c, 8), (d, 3)]);
    }

    #[test]
    fn a_driver_hears_of_the_index_it_named_wherever_in_the_frame_it_is() {
        let memory = test_driver::memory(1);
        let (mut driver, mut queue) = Driver::new(&memory, 0);
        let event = GuestAddress(queue.avail_ring() + 4 + 2 * u64::from(queue.size()));
        for (wanted, is_due) in [(0u16, true), (2, true), (3, false), (0xffff, false)] {
            let before = queue.next_used();
            memory.write_obj(before.wrapping_add(wanted), event).unwrap();
            let chains = [0; 3].map(|_| {
                driver.offer(&[], &[8]);
                pop(&mut queue, &memory).unwrap().unwrap()
            });
            complete_together(&mut queue, &memory, chains.iter().map(|chain| (chain, 8))).unwrap();
            assert_eq!(is_interrupt_due(&queue, &memory, before).unwrap(), is_due, "{wanted} further");
        }
        queue.set_event_idx(false);
        assert!(!is_interrupt_due(&queue, &memory, 0).unwrap(), "the transport looks at the flag");
    }
}
