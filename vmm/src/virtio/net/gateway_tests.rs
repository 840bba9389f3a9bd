//! The card on a network stack: the test is the stack, at the other end of a socket.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use virtio_bindings::virtio_net as bindings;

use super::header::{HEADER_BYTES, MAX_FRAME_BYTES};
use super::tests::{MAC, PLAIN};
use super::*;
use crate::config::Rate;
use crate::virtio::test_driver::{self, Driver, Offer};

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const MERGEABLE: u64 = 1 << bindings::VIRTIO_NET_F_MRG_RXBUF;
const PATIENCE: Duration = Duration::from_secs(20);

/// A datagram from the guest to `to`, in a frame of `bytes` that is told by its number.
fn datagram(to: [u8; 4], number: u8, bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(GUEST.octets());
    frame.extend(to);
    frame.extend([0, 53, 0, 53, 0, 8, 0, 0]);
    frame.resize(bytes, number);
    frame
}

struct Bench {
    stack: UnixStream,
    memory: GuestMemoryMmap,
    receive: Driver,
    transmit: Driver,
    queues: Vec<Queue>,
    device: NetworkCard,
}

impl Bench {
    fn new(rates: CardRates) -> Self {
        let (stack, ours) = UnixStream::pair().unwrap();
        stack.set_read_timeout(Some(PATIENCE)).unwrap();
        let gateway = Gateway::of_socket(ours, GUEST, GATEWAY).unwrap();
        let end = Some(HostEnd::Gateway(Box::new(gateway)));
        let mut device = NetworkCard::new(end, MAC, Some(65_520), rates).unwrap();
        let offloads = 1 << bindings::VIRTIO_NET_F_CSUM | 1 << bindings::VIRTIO_NET_F_GUEST_CSUM;
        assert_eq!(device.features() & offloads, 0, "the stack takes whole frames");
        device.activate(MERGEABLE);
        let memory = test_driver::memory(2);
        let ((receive, one), (transmit, two)) = (Driver::new(&memory, 0), Driver::new(&memory, 1));
        Self { stack, memory, receive, transmit, queues: vec![one, two], device }
    }

    fn event(&mut self, index: usize) -> UsedQueues {
        let mut queues: Vec<&mut Queue> = self.queues.iter_mut().collect();
        self.device.queue_event(index, &self.memory, &mut queues).unwrap()
    }

    fn host_event(&mut self) -> UsedQueues {
        let mut queues: Vec<&mut Queue> = self.queues.iter_mut().collect();
        self.device.host_event(&self.memory, &mut queues).unwrap()
    }

    fn is_readable(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let fd = self.device.host_fd().unwrap();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    fn offer_frame(&mut self, frame: &[u8]) {
        self.transmit.offer(&[&PLAIN, frame], &[]);
    }

    /// Lets the device work until `done`.
    fn work_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "it does not come to that");
            if self.is_readable() {
                self.host_event();
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn frame_at_stack(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stack.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stack.read_exact(&mut frame).unwrap();
        frame
    }

    fn stack_sends(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap();
        self.stack.write_all(&[&length.to_be_bytes(), frame].concat()).unwrap();
    }

    fn has_link(&self) -> bool {
        let mut status = [0; 2];
        self.device.read_config(LINK.start as u64, &mut status);
        status == [1, 0]
    }

    /// What came back in the receive queue so far, of offers of one buffer each.
    fn received(&mut self, offers: &mut std::vec::IntoIter<Offer>) -> Vec<Vec<u8>> {
        let returned = self.receive.returned();
        let frame = |(head, length): (u16, usize)| {
            let offer = offers.next().unwrap();
            assert_eq!(offer.head, head, "in order");
            self.receive.written(&offer)[HEADER_BYTES..length].to_vec()
        };
        returned.into_iter().map(frame).collect()
    }
}

#[test]
fn frames_go_both_ways_in_order_however_the_stream_is_cut() {
    let mut bench = Bench::new(CardRates::default());
    for number in 0..10 {
        bench.offer_frame(&datagram([192, 0, 2, 1], number, 60 + usize::from(number)));
    }
    bench.event(TRANSMIT);
    for number in 0..10 {
        let frame = bench.frame_at_stack();
        assert_eq!(frame, datagram([192, 0, 2, 1], number, 60 + usize::from(number)));
    }
    assert_eq!(bench.device.statistics.counters().to_network_bytes, 645);

    let offers: Vec<Offer> = (0..30).map(|_| bench.receive.offer(&[], &[2000])).collect();
    let mut offers = offers.into_iter();
    bench.event(RECEIVE);
    let frames: Vec<Vec<u8>> = (0..20).map(|number| vec![number; 500 + usize::from(number)]).collect();
    let stream: Vec<u8> = frames
        .iter()
        .flat_map(|frame| [&u32::try_from(frame.len()).unwrap().to_be_bytes()[..], frame].concat())
        .collect();
    let mut arrived = Vec::new();
    for piece in stream.chunks(777) {
        bench.stack.write_all(piece).unwrap();
        bench.host_event();
        arrived.extend(bench.received(&mut offers));
    }
    assert_eq!(arrived, frames);
}

#[test]
fn the_stack_hears_where_the_guest_is_before_the_guest_says_anything() {
    let mut bench = Bench::new(CardRates::default());
    let Some(HostEnd::Gateway(gateway)) = &mut bench.device.end else { panic!("it has one") };
    gateway.announce(MAC, GUEST);
    // What a driver's start wakes up.
    bench.host_event();
    let frame = bench.frame_at_stack();
    assert_eq!((&frame[..6], &frame[6..14]), (&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6][..]));
    assert_eq!(
        (frame.len(), &frame[22..32], &frame[38..]),
        (42, &[2, 0, 0, 0, 0, 1, 10, 0, 0, 2][..], &GUEST.octets()[..])
    );
}

#[test]
fn the_longest_frame_fills_many_buffers() {
    let mut bench = Bench::new(CardRates::default());
    let offers: Vec<Offer> = (0..60).map(|_| bench.receive.offer(&[], &[1526])).collect();
    bench.event(RECEIVE);
    let frame: Vec<u8> = (0..MAX_FRAME_BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let count = (HEADER_BYTES + frame.len()).div_ceil(1526);
    // The socket's buffer may not hold it at once.
    let mut stack = bench.stack.try_clone().unwrap();
    let message = [&u32::try_from(frame.len()).unwrap().to_be_bytes()[..], &frame].concat();
    let sending = std::thread::spawn(move || stack.write_all(&message).unwrap());
    let mut returned = 0;
    bench.work_until(|bench| {
        returned += bench.receive.returned().len();
        returned == count
    });
    sending.join().unwrap();
    let bytes: Vec<u8> = offers.iter().flat_map(|offer| bench.receive.written(offer)).collect();
    assert!(bytes[HEADER_BYTES..][..frame.len()] == frame);
    assert_eq!(usize::from(u16::from_le_bytes([bytes[10], bytes[11]])), count);
}

#[test]
fn what_the_guest_may_not_send_does_not_leave() {
    let mut bench = Bench::new(CardRates::default());
    for to in [[127, 0, 0, 1], [0, 0, 0, 0], [10, 0, 0, 1], [192, 0, 2, 1]] {
        bench.offer_frame(&datagram(to, 7, 100));
    }
    bench.event(TRANSMIT);
    assert_eq!(bench.frame_at_stack(), datagram([192, 0, 2, 1], 7, 100));
    assert_eq!(bench.device.statistics.counters().dropped_to_network, 3);
    assert_eq!(bench.transmit.returned().len(), 4);
}

#[test]
fn frames_wait_in_the_guest_while_the_stack_takes_none() {
    let mut bench = Bench::new(CardRates::default());
    let frame = datagram([192, 0, 2, 1], 9, 60_000);
    let mut taken = 0;
    // Until the socket and our own memory are full.
    loop {
        bench.offer_frame(&frame);
        bench.event(TRANSMIT);
        match bench.transmit.returned().len() {
            0 => break,
            returned => taken += returned,
        }
        assert!(taken < 1000, "nothing bounds what is kept for the stack");
    }
    assert!(taken > 0);
    // All arrive once it does, the one that waited too.
    let mut stack = bench.stack.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut message = vec![0; 4 + 60_000];
        (0..=taken).for_each(|_| stack.read_exact(&mut message).unwrap());
    });
    bench.work_until(|bench| bench.transmit.returned().len() == 1);
    bench.work_until(|_| reading.is_finished());
    reading.join().unwrap();
    assert_eq!(bench.device.statistics.counters().dropped_to_network, 0);
}

#[test]
fn a_card_whose_stack_is_gone_has_no_link_and_goes_on() {
    let too_long = u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_be_bytes();
    for nonsense in [&[][..], &[0, 0, 0, 13], &[0xff; 4], &too_long] {
        let mut bench = Bench::new(CardRates::default());
        (0..4).for_each(|_| drop(bench.receive.offer(&[], &[2000])));
        bench.event(RECEIVE);
        assert!(bench.has_link());
        bench.stack_sends(&[5; 60]);
        bench.stack.write_all(nonsense).unwrap();
        if nonsense.is_empty() {
            bench.stack.shutdown(std::net::Shutdown::Both).unwrap();
        }
        assert!(bench.is_readable() && bench.host_event().has_configuration(), "{nonsense:?}");
        assert!(!bench.has_link());
        assert_eq!(bench.receive.returned().len(), 1, "what it said before arrived");
        bench.offer_frame(&datagram([192, 0, 2, 1], 1, 60));
        bench.event(TRANSMIT);
        assert_eq!(bench.device.statistics.counters().dropped_to_network, 1);
        assert!(!bench.is_readable());
    }
}

#[test]
fn a_rate_holds_both_ways() {
    let rate = Some(Rate { bytes_per_second: 200_000, burst_bytes: 10_000 });
    let mut bench = Bench::new(CardRates { to_guest: rate, to_network: rate });
    let begun = Instant::now();
    let frame = datagram([192, 0, 2, 1], 1, 1000);
    (0..40).for_each(|_| bench.offer_frame(&frame));
    bench.event(TRANSMIT);
    let at_once = bench.transmit.returned().len();
    assert!(at_once < 40, "only a burst passes at once");
    let mut returned = at_once;
    bench.work_until(|bench| {
        returned += bench.transmit.returned().len();
        returned == 40
    });
    // 40 kB, 10 of them at once and 1 on credit: the clock may be late, never early.
    assert!(begun.elapsed() >= Duration::from_millis(140), "{:?}", begun.elapsed());

    let begun = Instant::now();
    for _ in 0..40 {
        bench.receive.offer(&[], &[1500]);
        bench.stack_sends(&[3; 1000]);
    }
    bench.event(RECEIVE);
    let mut returned = 0;
    bench.work_until(|bench| {
        returned += bench.receive.returned().len();
        returned == 40
    });
    assert!(begun.elapsed() >= Duration::from_millis(140), "{:?}", begun.elapsed());
    let nothing = bench.stack.set_nonblocking(true).and_then(|()| bench.stack.read(&mut vec![0; 1 << 20]));
    assert!(nothing.is_ok_and(|length| length == 40 * 1004), "every frame left");
    let over = bench.stack.read(&mut [0]).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::WouldBlock);
}
