//! The console device (virtio 1.2, section 5.3): what the guest prints goes to the console log; there is no input.

use std::sync::Arc;

use virtio_queue::Queue;

use super::chain::{self, Chain};
use super::{Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, state};
use crate::console_log::ConsoleLog;
use crate::memory::GuestMemoryMmap;

const QUEUE_SIZE: u16 = 64;
/// Queue 0 carries input, and its buffers stay with the device; queue 1 is what the guest prints.
const OUTPUT_QUEUE: usize = 1;
/// A chain's text is copied out in parts of this size.
const PART_BYTES: usize = 4096;

/// The device.
#[derive(Debug)]
pub(crate) struct Console {
    log: Arc<ConsoleLog>,
}

impl Console {
    pub(crate) fn new(log: Arc<ConsoleLog>) -> Self {
        Self { log }
    }

    fn print(&self, chain: &Chain, memory: &GuestMemoryMmap) -> Result<usize, Broken> {
        let text = &chain.readable;
        // More than the log keeps cannot be seen; reading on would let one chain hold the thread for 4 GiB.
        let visible = usize::try_from(self.log.limit_bytes()).unwrap_or(usize::MAX);
        let mut position = text.len().saturating_sub(visible);
        let mut part = [0; PART_BYTES];
        while position < text.len() {
            let length = PART_BYTES.min(text.len() - position);
            text.range(position, length).read(memory, &mut part[..length])?;
            self.log.append(&part[..length]);
            position += length;
        }
        Ok(0)
    }
}

impl VirtioDevice for Console {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Console
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
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
        if index != OUTPUT_QUEUE {
            return Ok(used);
        }
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        if chain::answer_all(queue, memory, |chain| self.print(chain, memory))? {
            used.add(index);
        }
        Ok(used)
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        Ok(DeviceState::Console)
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        state::expect_same(state, DeviceState::Console)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::test_driver::{self, Driver};

    fn printed(limit_bytes: u64, chains: &[&[&[u8]]]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let mut console = Console::new(Arc::new(ConsoleLog::create(&path, limit_bytes).unwrap()));
        let memory = test_driver::memory(2);
        let (mut input, mut input_queue) = Driver::new(&memory, 0);
        let (mut output, mut output_queue) = Driver::new(&memory, 1);
        input.offer(&[], &[16]);
        for chain in chains {
            output.offer(chain, &[]);
        }
        let queues = &mut [&mut input_queue, &mut output_queue];
        assert_eq!(console.queue_event(0, &memory, queues).unwrap(), UsedQueues::NONE);
        assert!(console.queue_event(OUTPUT_QUEUE, &memory, queues).unwrap().contains(OUTPUT_QUEUE));
        assert_eq!(output.returned().len(), chains.len());
        assert_eq!(input.returned(), [], "input waits for ever");
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn what_is_printed_arrives_in_order() {
        assert_eq!(printed(100, &[&[b"hel", b"lo "], &[b"world\n"]]), b"hello world\n");
    }

    #[test]
    fn of_one_long_text_the_end_is_kept() {
        let text: Vec<u8> = (0..20_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let kept = printed(5000, &[&[&text]]);
        assert!(kept.len() >= 2500 && kept.len() <= 5000);
        assert!(text.ends_with(&kept));
    }
}
