//! The socket device of a guest that goes on from a snapshot.

use super::tests::Bench;
use super::*;
use crate::virtio::test_driver::Driver;

/// A device whose guest goes on, and the guest's end of the event queue.
fn resumed(bench: &mut Bench) -> (Driver, Queue) {
    let (events, mut queue) = Driver::new(&bench.memory, 2);
    bench.device.activate(0);
    let queues = &mut [&mut bench.receive_queue, &mut bench.transmit_queue, &mut queue];
    let used = bench.device.resume(&bench.memory, queues).unwrap();
    assert_eq!(used, UsedQueues::NONE, "no buffer to be told in");
    (events, queue)
}

fn event_queue_notified(bench: &mut Bench, queue: &mut Queue) -> UsedQueues {
    let queues = &mut [&mut bench.receive_queue, &mut bench.transmit_queue, queue];
    bench.device.queue_event(EVENT_QUEUE, &bench.memory, queues).unwrap()
}

#[test]
fn a_guest_that_goes_on_elsewhere_is_told_once_and_sees_no_port_again() {
    let mut bench = Bench::with_buffers(4);
    let (_host, port) = bench.connect_from_host();
    let saved = bench.device.save().unwrap();

    let mut bench = Bench::with_buffers(4);
    bench.device.restore(&saved).unwrap();
    let (mut events, mut queue) = resumed(&mut bench);
    let offers = [events.offer(&[], &[8]), events.offer(&[], &[8])];
    for _ in 0..2 {
        event_queue_notified(&mut bench, &mut queue);
    }
    assert_eq!(events.returned(), [(offers[0].head, 4)]);
    assert_eq!(events.written(&offers[0])[..4], TRANSPORT_RESET.to_le_bytes());
    // What it offers next says that it has understood.
    events.offer(&[], &[8]);
    event_queue_notified(&mut bench, &mut queue);
    assert_eq!(events.returned(), []);
    assert_eq!(bench.connect_from_host().1, port + 1);
}

#[test]
fn a_host_that_is_quicker_than_the_guest_waits_for_it() {
    let mut bench = Bench::with_buffers(4);
    let (mut events, mut queue) = resumed(&mut bench);
    events.offer(&[], &[8]);
    event_queue_notified(&mut bench, &mut queue);

    let _host = bench.dial();
    assert_eq!(bench.received(), [], "it would answer with the context id that it had");
    events.offer(&[], &[8]);
    assert!(event_queue_notified(&mut bench, &mut queue).contains(RECEIVE_QUEUE));
    let [(request, _)] = &bench.received()[..] else { panic!("not one packet") };
    assert_eq!(request.operation, Operation::Request);
}

#[test]
fn the_state_of_another_device_is_refused() {
    let error = Bench::new().device.restore(&DeviceState::Rng).unwrap_err();
    assert!(error.to_string().contains("another device"), "{error}");
}
