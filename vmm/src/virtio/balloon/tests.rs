//! The balloon on real queues and real memory, with honest and hostile drivers.

use vm_memory::{Bytes, GuestMemoryBackend};

use super::*;
use crate::control::GuestMemoryStatistics;
use crate::virtio::test_driver::{self, Driver};

const PAGE: u64 = PAGE_BYTES;
const ALL: u64 = 1 << STATISTICS | 1 << DEFLATE_ON_OOM | 1 << REPORTING;
const STATISTICS_QUEUE: usize = 2;
const REPORTING_QUEUE: usize = 3;

struct Bench {
    memory: GuestMemoryMmap,
    drivers: Vec<Driver>,
    queues: Vec<Queue>,
    device: Balloon,
}

impl Bench {
    fn new() -> Self {
        let config = BalloonConfig { target_mib: 1, deflate_on_oom: true, report_free_pages: true };
        let mut device = Balloon::new(config, 8).unwrap();
        assert_eq!(device.features(), ALL);
        device.activate(ALL);
        // Each queue has a MiB; what follows belongs to the guest.
        let memory = test_driver::memory(8);
        let (drivers, queues) = (0..4).map(|index| Driver::new(&memory, index)).unzip();
        Self { memory, drivers, queues, device }
    }

    fn event(&mut self, index: usize) -> Result<UsedQueues, Broken> {
        let mut queues: Vec<&mut Queue> = self.queues.iter_mut().collect();
        self.device.queue_event(index, &self.memory, &mut queues)
    }

    fn host_event(&mut self) -> UsedQueues {
        let mut queues: Vec<&mut Queue> = self.queues.iter_mut().collect();
        self.device.host_event(&self.memory, &mut queues).unwrap()
    }

    fn inflate(&mut self, pages: &[u32]) -> Result<UsedQueues, Broken> {
        let numbers: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        self.drivers[INFLATE].offer(&[&numbers], &[]);
        self.event(INFLATE)
    }

    /// Fills a page, so that one can see whether it went away.
    fn fill(&self, page: u32) {
        self.memory.write_slice(&[7; 4096], GuestAddress(u64::from(page) * PAGE)).unwrap();
    }

    fn is_full(&self, page: u32) -> bool {
        let mut bytes = [1; 4096];
        self.memory.read_slice(&mut bytes, GuestAddress(u64::from(page) * PAGE)).unwrap();
        assert!(bytes == [7; 4096] || bytes == [0; 4096]);
        bytes[0] == 7
    }

    fn config(&self) -> [u8; CONFIG_BYTES] {
        let mut config = [0xff; CONFIG_BYTES];
        self.device.read_config(0, &mut config);
        config
    }
}

#[test]
fn inflated_pages_go_back_and_their_neighbours_stay() {
    let mut bench = Bench::new();
    (1100..1110).for_each(|page| bench.fill(page));
    assert!(bench.inflate(&[1106, 1102, 1103, 1103, 1101]).unwrap().contains(INFLATE));
    assert_eq!(bench.drivers[INFLATE].returned().len(), 1);
    let full: Vec<u32> = (1100..1110).filter(|page| bench.is_full(*page)).collect();
    assert_eq!(full, [1100, 1104, 1105, 1107, 1108, 1109]);
    assert_eq!(bench.device.handle().counters().inflated_bytes, 4 * PAGE);
    bench.fill(1102);
    assert!(bench.is_full(1102), "and it can be used again, told or not");
}

#[test]
fn deflating_is_answered() {
    let mut bench = Bench::new();
    bench.drivers[DEFLATE].offer(&[&1100u32.to_le_bytes()], &[]);
    assert!(bench.event(DEFLATE).unwrap().contains(DEFLATE));
    assert_eq!(bench.drivers[DEFLATE].returned().len(), 1);
}

#[test]
fn pages_that_are_none_break_the_device_and_are_not_touched() {
    for (what, numbers) in [
        ("behind memory", 2048u32.to_le_bytes().to_vec()),
        ("the last there can be", u32::MAX.to_le_bytes().to_vec()),
        ("one good, one bad", [1100u32.to_le_bytes(), (1u32 << 20).to_le_bytes()].concat()),
        ("half a number", vec![0; 6]),
        ("too many", 1100u32.to_le_bytes().repeat(MAX_PAGES + 1)),
    ] {
        let mut bench = Bench::new();
        let offer: Vec<&[u8]> = numbers.chunks(1 << 17).collect();
        bench.drivers[INFLATE].offer(&offer, &[]);
        let broken = bench.event(INFLATE).unwrap_err();
        assert!(broken.0.contains("page"), "{what}: {broken}");
    }
}

#[test]
fn reported_memory_goes_back_as_whole_pages() {
    let mut bench = Bench::new();
    // The test driver's buffers follow each other from a page's beginning on.
    let first = bench.drivers[REPORTING_QUEUE].reserve(0);
    let page = u32::try_from(first.div_ceil(PAGE)).unwrap();
    let padding = usize::try_from(u64::from(page) * PAGE - first).unwrap();
    bench.drivers[REPORTING_QUEUE].reserve(padding);
    (page..page + 6).for_each(|page| bench.fill(page));
    // Two pages; then the second half of one, one, and the first half of another.
    bench.drivers[REPORTING_QUEUE].offer(&[], &[8192]);
    bench.drivers[REPORTING_QUEUE].reserve(2048);
    bench.drivers[REPORTING_QUEUE].offer(&[], &[8192]);
    assert!(bench.event(REPORTING_QUEUE).unwrap().contains(REPORTING_QUEUE));
    assert_eq!(bench.drivers[REPORTING_QUEUE].returned().len(), 2);
    let full: Vec<u32> = (0..6).filter(|offset| bench.is_full(page + offset)).collect();
    assert_eq!(full, [2, 4, 5]);
    assert_eq!(bench.device.handle().counters().reported_bytes, 3 * PAGE);
}

#[test]
fn reporting_has_the_next_free_queue() {
    let mut bench = Bench::new();
    bench.device.reset();
    bench.device.activate(1 << REPORTING);
    let first = bench.drivers[2].reserve(0);
    bench.drivers[2].offer(&[], &[usize::try_from(first.next_multiple_of(PAGE) - first + PAGE).unwrap()]);
    assert!(bench.event(2).unwrap().contains(2));
    assert_eq!(bench.device.handle().counters().reported_bytes, PAGE);
    assert_eq!(bench.event(3).unwrap(), UsedQueues::NONE);
}

#[test]
fn the_wanted_size_reaches_the_driver_and_the_actual_one_the_host() {
    let mut bench = Bench::new();
    let handle = bench.device.handle();
    assert_eq!(bench.config()[..8], [0, 1, 0, 0, 0, 0, 0, 0], "256 pages are wanted at boot");
    assert!(!bench.host_event().has_configuration());
    handle.set_target(5).unwrap();
    assert!(handle.set_target(9).is_err(), "more than there is");
    assert!(bench.host_event().has_configuration());
    assert!(!bench.host_event().has_configuration(), "told once");
    assert_eq!(bench.config()[..4], 1280u32.to_le_bytes());

    bench.device.write_config(4, &512u32.to_le_bytes());
    assert_eq!((handle.counters().target_mib, handle.counters().actual_mib), (5, 2));
    // What is not the driver's to write.
    bench.device.write_config(0, &[0xff; 4]);
    bench.device.write_config(8, &[0xff; 100]);
    bench.device.write_config(u64::MAX, &[0xff; 4]);
    bench.device.write_config(7, &[0]);
    assert_eq!(bench.config()[..8], [0, 5, 0, 0, 0, 2, 0, 0]);
    bench.device.reset();
    assert_eq!(handle.counters().actual_mib, 0);
}

fn statistics_entry(tag: u16, value: u64) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat()
}

#[test]
fn statistics_come_when_they_are_asked_for() {
    let mut bench = Bench::new();
    let handle = bench.device.handle();
    let said = [statistics_entry(5, 1 << 27), statistics_entry(99, 1), statistics_entry(4, 1 << 20)].concat();
    bench.drivers[STATISTICS_QUEUE].offer(&[&said], &[]);
    bench.event(STATISTICS_QUEUE).unwrap();
    assert!(bench.drivers[STATISTICS_QUEUE].returned().is_empty(), "the buffer is kept");
    let expected = GuestMemoryStatistics {
        total_bytes: Some(1 << 27),
        free_bytes: Some(1 << 20),
        ..GuestMemoryStatistics::default()
    };
    assert_eq!(handle.counters().guest, Some(expected));
    assert!(bench.host_event().contains(STATISTICS_QUEUE), "those counters asked for newer ones");
    assert_eq!(bench.drivers[STATISTICS_QUEUE].returned().len(), 1);
    assert!(!bench.host_event().contains(STATISTICS_QUEUE));
    // Half an entry at the end says nothing, and a huge buffer is read in part.
    bench.drivers[STATISTICS_QUEUE].offer(&[&statistics_entry(4, 9)[..7]], &[]);
    bench.drivers[STATISTICS_QUEUE].offer(&[&statistics_entry(4, 3).repeat(100)], &[]);
    assert!(bench.event(STATISTICS_QUEUE).unwrap().contains(STATISTICS_QUEUE), "the older one is not needed");
    assert_eq!(handle.counters().guest.unwrap().free_bytes, Some(3));
}

#[test]
fn a_snapshot_finds_the_statistics_buffer_in_its_queue() {
    let mut bench = Bench::new();
    bench.drivers[STATISTICS_QUEUE].offer(&[&statistics_entry(4, 1)], &[]);
    bench.event(STATISTICS_QUEUE).unwrap();
    assert_eq!(virtio_queue::QueueT::next_avail(&bench.queues[STATISTICS_QUEUE]), 1);
    let mut queues: Vec<&mut Queue> = bench.queues.iter_mut().collect();
    bench.device.quiesce(&bench.memory, &mut queues).unwrap();
    assert_eq!(virtio_queue::QueueT::next_avail(&bench.queues[STATISTICS_QUEUE]), 0);
    bench.device.handle().counters();
    assert!(bench.host_event().contains(STATISTICS_QUEUE), "and the machine goes on");
    assert_eq!(bench.drivers[STATISTICS_QUEUE].returned().len(), 1);
}

#[test]
fn a_balloon_goes_on_in_another_process_if_it_is_like_the_old_one() {
    let mut bench = Bench::new();
    bench.device.write_config(4, &512u32.to_le_bytes());
    let state = bench.device.save().unwrap();
    let config = BalloonConfig { target_mib: 3, deflate_on_oom: true, report_free_pages: true };
    let mut successor = Balloon::new(config, 8).unwrap();
    successor.restore(&state).unwrap();
    successor.activate(ALL);
    assert_eq!((successor.handle().counters().actual_mib, successor.handle().counters().target_mib), (2, 3));
    assert!(successor.resume(&bench.memory, &mut []).unwrap().has_configuration());
    let mut other = Balloon::new(BalloonConfig { report_free_pages: false, ..config }, 8).unwrap();
    assert!(other.restore(&state).is_err());
    assert!(other.restore(&DeviceState::Rng).is_err());
    assert_eq!(bench.memory.num_regions(), 1);
}

#[test]
fn queues_that_do_not_exist_are_left_alone() {
    let mut bench = Bench::new();
    assert_eq!(bench.event(4).unwrap(), UsedQueues::NONE);
    assert_eq!(bench.device.queue_event(0, &bench.memory, &mut []).unwrap(), UsedQueues::NONE);
}
