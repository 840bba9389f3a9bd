//! The balloon between a hostile driver and a control thread that asks for sizes and statistics.

use std::sync::Arc;

use super::bench::Bench;
use super::guest_space::GuestSpace;
use super::input::Input;
use super::script::{self, Subject};
use crate::config::BalloonConfig;
use crate::layout::PAGE_BYTES;
use crate::virtio::{Balloon, BalloonHandle};

const MEMORY_MIB: u32 = 4;
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;

pub(super) struct BalloonSubject(Arc<BalloonHandle>);

/// The balloon's queues. A driver may name any page, so writes are not checked; that a snapshot knows of them is.
pub(super) fn balloon(input: &[u8]) {
    let (device, mut subject) = device();
    let mut bench = Bench::new(Box::new(device));
    bench.writes_anywhere();
    script::play(&mut bench, &mut subject, input);
}

/// A balloon with all that it can do, and its control thread.
pub(super) fn device() -> (Balloon, BalloonSubject) {
    let config = BalloonConfig { target_mib: 1, deflate_on_oom: true, report_free_pages: true };
    let device = Balloon::new(config, MEMORY_MIB).expect("the host has descriptors");
    let subject = BalloonSubject(device.handle());
    (device, subject)
}

impl Subject for BalloonSubject {
    fn message(&mut self, queue: usize, input: &mut Input<'_>) -> Vec<u8> {
        let mut message = Vec::new();
        match queue {
            INFLATE | DEFLATE => {
                for _ in 0..input.u8() {
                    let page = if input.flag() { input.u32() } else { u32::from(input.u16() & 0x1ff) };
                    message.extend(page.to_le_bytes());
                }
            }
            STATISTICS => {
                for _ in 0..input.u8() & 15 {
                    message.extend(u16::from(input.u8()).to_le_bytes());
                    message.extend(input.u64().to_le_bytes());
                }
            }
            _ => {}
        }
        let rest = usize::from(input.u8() & 3);
        message.extend(input.bytes(rest));
        message
    }

    fn host_step(&mut self, input: &mut Input<'_>) {
        if input.flag() {
            self.0.counters();
        } else {
            let target_mib = u32::from(input.u8());
            assert_eq!(self.0.set_target(target_mib).is_ok(), target_mib <= MEMORY_MIB);
        }
    }

    /// A page that is given away reads as zeros.
    fn probe(&mut self, bench: &mut Bench) {
        let page = GuestSpace::LAST_PAGE;
        bench.space.write(page, b"something");
        let number = u32::try_from(page / PAGE_BYTES).expect("low memory");
        bench.request(INFLATE, &[&number.to_le_bytes()], &[]).expect("a page is taken");
        assert_eq!(bench.space.read(page, 9), [0; 9]);
    }
}
