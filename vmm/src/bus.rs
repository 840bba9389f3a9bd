//! Which device answers at an address: one bus for ports, one for memory-mapped registers.
//!
//! Addresses and sizes come from the guest. Where nothing answers, reads give all ones and writes are lost, as on
//! a PC; an access that starts in a device's range and ends outside of it is no access to that device.

use std::fmt;
use std::sync::Arc;

/// A device with registers. Called from every vCPU's thread, so it does its own locking.
pub(crate) trait BusDevice: Send + Sync {
    /// Reads registers from `offset` on; fills all of `data`.
    fn read(&self, offset: u64, data: &mut [u8]);

    fn write(&self, offset: u64, data: &[u8]);
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("devices at {first:#x} and {second:#x} overlap")]
pub(crate) struct Overlap {
    first: u64,
    second: u64,
}

/// Devices and their ranges, sorted, disjoint.
#[derive(Default)]
pub(crate) struct Bus {
    ranges: Vec<Range>,
}

struct Range {
    start: u64,
    bytes: u64,
    device: Arc<dyn BusDevice>,
}

impl Bus {
    /// # Errors
    /// The range, or a part of it, belongs to another device.
    pub(crate) fn insert(
        &mut self,
        start: u64,
        bytes: u64,
        device: Arc<dyn BusDevice>,
    ) -> Result<(), Overlap> {
        let position = self.ranges.partition_point(|range| range.start < start);
        let neighbours = [position.checked_sub(1), Some(position)];
        for other in neighbours.into_iter().flatten().filter_map(|index| self.ranges.get(index)) {
            if start < other.start + other.bytes && other.start < start + bytes {
                return Err(Overlap { first: other.start, second: start });
            }
        }
        self.ranges.insert(position, Range { start, bytes, device });
        Ok(())
    }

    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64, length: usize) -> Option<(&dyn BusDevice, u64)> {
        let position = self.ranges.partition_point(|range| range.start <= address);
        let range = self.ranges.get(position.checked_sub(1)?)?;
        let offset = address - range.start;
        let end = offset.checked_add(u64::try_from(length).ok()?)?;
        (end <= range.bytes).then_some((&*range.device, offset))
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges.iter().map(|range| range.start..range.start + range.bytes);
        f.debug_set().entries(ranges).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Reads give the offset; writes are remembered.
    #[derive(Default)]
    struct Probe(Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Probe {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }

        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    #[test]
    fn accesses_reach_the_device_whose_range_holds_them() {
        let (low, high) = (Arc::new(Probe::default()), Arc::new(Probe::default()));
        let mut bus = Bus::default();
        bus.insert(0x200, 0x10, high.clone()).unwrap();
        bus.insert(0x100, 0x10, low.clone()).unwrap();

        let mut data = [0; 2];
        bus.read(0x20e, &mut data);
        assert_eq!(data, [0xe, 0xe]);
        bus.write(0x100, &[1]);
        bus.write(0x110, &[2]);
        assert_eq!(*low.0.lock().unwrap(), [(0, vec![1])]);
        assert!(high.0.lock().unwrap().is_empty());
    }

    #[test]
    fn where_nothing_answers_reads_give_ones() {
        let mut bus = Bus::default();
        bus.insert(0x100, 0x10, Arc::new(Probe::default())).unwrap();
        for address in [0, 0xff, 0x10f, 0x110, u64::MAX] {
            let mut data = [0; 2];
            bus.read(address, &mut data);
            assert_eq!(data, [0xff, 0xff], "{address:#x}");
        }
    }

    #[test]
    fn ranges_do_not_overlap() {
        let mut bus = Bus::default();
        let device = Arc::new(Probe::default());
        bus.insert(0x100, 0x10, device.clone()).unwrap();
        for (start, bytes) in [(0x100, 0x10), (0x10f, 1), (0xf0, 0x11), (0xf0, 0x100)] {
            assert!(bus.insert(start, bytes, device.clone()).is_err(), "{start:#x}");
        }
        bus.insert(0x110, 1, device.clone()).unwrap();
        bus.insert(0xff, 1, device).unwrap();
    }
}
