//! The entropy device (virtio 1.2, section 5.4): the host kernel's random bytes.

use virtio_queue::Queue;

use super::chain::{self, Chain};
use super::{Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, state};
use crate::memory::GuestMemoryMmap;

const QUEUE_SIZE: u16 = 64;
/// No driver needs more at once; a chain may be given back partly filled.
const MAX_BYTES: usize = 4096;

/// The device; it has no state.
#[derive(Debug, Default)]
pub(crate) struct Rng;

fn fill(chain: &Chain, memory: &GuestMemoryMmap) -> Result<usize, Broken> {
    let mut bytes = [0; MAX_BYTES];
    let bytes = &mut bytes[..chain.writable.len().min(MAX_BYTES)];
    let filled = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Broken(format!("getrandom: {e}")))?;
    chain.writable.write(memory, &bytes[..filled])?;
    Ok(filled)
}

impl VirtioDevice for Rng {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        0
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {}

    fn queue_event(
        &mut self,
        index: usize,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let mut used = UsedQueues::NONE;
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        if chain::answer_all(queue, memory, |chain| fill(chain, memory))? {
            used.add(index);
        }
        Ok(used)
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        Ok(DeviceState::Rng)
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        state::expect_same(state, DeviceState::Rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::test_driver::{self, Driver};

    #[test]
    fn every_buffer_is_filled_with_other_bytes() {
        let memory = test_driver::memory(1);
        let (mut driver, mut queue) = Driver::new(&memory, 0);
        let offers = [driver.offer(&[], &[64]), driver.offer(&[], &[10, 54])];
        assert!(Rng.queue_event(0, &memory, &mut [&mut queue]).unwrap().contains(0));
        assert_eq!(driver.returned(), [(offers[0].head, 64), (offers[1].head, 64)]);
        let [one, two] = offers.map(|offer| driver.written(&offer));
        assert!(one != two && one != [0; 64]);
    }

    #[test]
    fn a_huge_buffer_is_filled_in_part() {
        let memory = test_driver::memory(1);
        let (mut driver, mut queue) = Driver::new(&memory, 0);
        driver.offer(&[], &[MAX_BYTES + 1]);
        driver.offer(&[b"read me"], &[]);
        Rng.queue_event(0, &memory, &mut [&mut queue]).unwrap();
        let lengths: Vec<usize> = driver.returned().into_iter().map(|(_, length)| length).collect();
        assert_eq!(lengths, [MAX_BYTES, 0]);
    }
}
