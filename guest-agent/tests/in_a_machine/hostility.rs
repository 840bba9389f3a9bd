//! Connections that do not keep to the rules end; nothing else does.

use std::io::Write;

use berth_protocol::agent::{ErrorCode, Reply, Request, StreamKind, reply};
use berth_protocol::frame;
use berth_protocol::ports::{REQUEST_PORT, STREAM_PORT};

use crate::client::read_frame;
use crate::container::script;
use crate::machine::{Machine, read_all};

#[test]
fn garbage_ends_its_own_connection_only() {
    let Some(machine) = Machine::boot("garbage_ends_its_own_connection_only") else { return };
    let mut client = machine.client();
    client.start(script("c1", "echo hello")).unwrap();
    for port in [REQUEST_PORT, STREAM_PORT] {
        for garbage in [&[0xff; 64][..], &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]] {
            let mut connection = client.raw(port);
            connection.write_all(garbage).unwrap();
            assert_eq!(read_all(connection), b"", "{garbage:?}");
        }
    }
    assert_eq!(client.stdout("c1"), "hello\n");
    client.remove("c1").unwrap();
}

#[test]
fn an_operation_of_the_future_is_answered() {
    let Some(machine) = Machine::boot("an_operation_of_the_future_is_answered") else { return };
    let mut connection = machine.client().raw(REQUEST_PORT);
    connection.write_all(&frame::encode(&Request { id: 7, operation: None }).unwrap()).unwrap();
    let reply: Reply = read_frame(&mut connection).unwrap();
    let Some(reply::Result::Error(error)) = reply.result else { panic!("no error") };
    assert_eq!((reply.id, error.code()), (7, ErrorCode::UnknownOperation));
}

#[test]
fn a_stream_that_cannot_be_is_refused() {
    let Some(machine) = Machine::boot("a_stream_that_cannot_be_is_refused") else { return };
    let mut client = machine.client();
    client.start(script("c1", "echo hello")).unwrap();
    let refused = |id, kind| client.stream(id, kind, 0).err().expect("no such stream").code();
    assert_eq!(refused("c2", StreamKind::Stdout), ErrorCode::NoSuchProcess);
    assert_eq!(refused("c1", StreamKind::Unset), ErrorCode::InvalidRequest);

    let mut greedy = client.stream("c1", StreamKind::Stdout, 0).unwrap();
    greedy.read_until("hello\n");
    greedy.acknowledge(1 << 40).unwrap();
    assert_eq!(read_all(greedy.connection), b"");
    assert_eq!(client.stdout("c1"), "hello\n", "what never was cannot be acknowledged");
    client.remove("c1").unwrap();
}
