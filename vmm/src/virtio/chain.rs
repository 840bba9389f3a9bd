//! Descriptor chains: what the guest put into a queue, checked once and made into plain lists of segments.
//!
//! After [`pop`] every segment lies in guest memory, lists are bounded, and the order of the specification
//! (virtio 1.2, section 2.7.4: device-readable parts first) holds. What the bytes mean is the device's business.

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::bitmap::Bitmap;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

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

/// Buffers the driver made available under one descriptor head.
#[derive(Debug)]
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
    if !queue.ready() {
        return Ok(None);
    }
    let mut available = queue.iter(memory).map_err(|e| Broken(format!("available ring: {e}")))?;
    let Some(descriptors) = available.next() else { return Ok(None) };
    let mut chain = Chain {
        head: descriptors.head_index(),
        readable: Segments::default(),
        writable: Segments { is_for_writing: true, ..Segments::default() },
    };
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
    if complete { Ok(Some(chain)) } else { Err(Broken("a descriptor chain without an end".into())) }
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

impl Chain {
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

    /// Appends the segments' host-side views to `slices`, for vectored system calls. What the device may write counts
    /// as written from here on: nobody else sees what the kernel does with it.
    pub(crate) fn slices<'m>(
        &self,
        memory: &'m GuestMemoryMmap,
        slices: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<(), Broken> {
        for segment in &self.list {
            for slice in GuestMemoryBackend::get_slices(memory, segment.address, segment.length) {
                let slice = slice.map_err(|e| Broken(format!("guest memory: {e}")))?;
                if self.is_for_writing {
                    slice.bitmap().mark_dirty(0, slice.len());
                }
                slices.push(slice);
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
}
