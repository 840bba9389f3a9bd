//! The socket device of a guest that goes on from a snapshot.

use super::tests::Bench;
use super::*;
use crate::virtio::test_driver::{self, Driver};

#[test]
fn a_guest_that_goes_on_elsewhere_is_told_once_and_sees_no_port_again() {
    let mut bench = Bench::with_buffers(4);
    let (_host, port) = bench.connect_from_host();
    let saved = bench.device.save().unwrap();

    let mut bench = Bench::with_buffers(4);
    bench.device.restore(&saved).unwrap();
    bench.device.activate(0);
    let memory = test_driver::memory(3);
    let (mut events, mut event_queue) = Driver::new(&memory, 2);
    let queues = &mut [&mut bench.receive_queue, &mut bench.transmit_queue, &mut event_queue];
    assert_eq!(bench.device.resume(&memory, queues).unwrap(), UsedQueues::NONE, "no buffer to be told in");
    let offers = [events.offer(&[], &[8]), events.offer(&[], &[8])];
    for _ in 0..2 {
        bench.device.queue_event(EVENT_QUEUE, &memory, queues).unwrap();
    }
    assert_eq!(events.returned(), [(offers[0].head, 4)]);
    assert_eq!(events.written(&offers[0])[..4], TRANSPORT_RESET.to_le_bytes());
    assert_eq!(bench.connect_from_host().1, port + 1);
}

#[test]
fn the_state_of_another_device_is_refused() {
    let error = Bench::new().device.restore(&DeviceState::Rng).unwrap_err();
    assert!(error.to_string().contains("another device"), "{error}");
}
