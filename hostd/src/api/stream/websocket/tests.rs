//! The pump between a client's WebSocket and an attachment, over an in-memory connection.

use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::engine::{Input, OutputStream};

struct Attached {
    client: DuplexStream,
    output: mpsc::Sender<Output>,
    input: mpsc::Receiver<Input>,
    pump: JoinHandle<()>,
}

fn attach(terminal: bool) -> Attached {
    let (client, server) = tokio::io::duplex(1024);
    let (output, output_receiver) = mpsc::channel(4);
    let (input_sender, input) = mpsc::channel(4);
    let attachment =
        Attachment { terminal, output: output_receiver, input: Some(input_sender), notice: None };
    let (reader, writer) = tokio::io::split(server);
    let keys = terminal.then(DetachKeys::default);
    Attached { client, output, input, pump: tokio::spawn(run(reader, writer, attachment, keys)) }
}

/// With a mask of zeros.
fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0x80 | opcode as u8, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe8];

async fn read_to_end(client: &mut DuplexStream) -> Vec<u8> {
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    received
}

#[tokio::test]
async fn both_directions_are_carried_and_the_end_is_a_close() {
    let mut attached = attach(false);
    attached.client.write_all(&masked(Opcode::Text, b"in")).await.unwrap();
    assert_eq!(attached.input.recv().await, Some(Input::Bytes(Bytes::from_static(b"in"))));
    for stream in [OutputStream::Stdout, OutputStream::Stderr] {
        attached.output.send(Output { stream, bytes: Bytes::from_static(b"out") }).await.unwrap();
    }
    drop(attached.output);
    let expected = [b"\x82\x03out\x82\x03out".as_slice(), &CLOSE].concat();
    assert_eq!(read_to_end(&mut attached.client).await, expected);
    attached.pump.await.unwrap();
}

#[tokio::test]
async fn a_ping_is_answered() {
    let mut attached = attach(false);
    attached.client.write_all(&masked(Opcode::Ping, b"hm")).await.unwrap();
    let mut pong = [0; 4];
    attached.client.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, [0x8a, 2, b'h', b'm']);
}

#[tokio::test]
async fn a_client_that_closes_ends_the_input_and_lets_go_of_the_output() {
    let mut attached = attach(false);
    attached.client.write_all(&masked(Opcode::Close, &[])).await.unwrap();
    assert_eq!(attached.input.recv().await, Some(Input::End));
    assert_eq!(read_to_end(&mut attached.client).await, CLOSE);
    attached.pump.await.unwrap();
    assert!(attached.output.is_closed());
}

#[tokio::test]
async fn detach_keys_end_the_connection_and_not_the_input() {
    let mut attached = attach(true);
    attached.client.write_all(&masked(Opcode::Binary, b"a\x10\x11b")).await.unwrap();
    assert_eq!(attached.input.recv().await, Some(Input::Bytes(Bytes::from_static(b"a"))));
    assert_eq!(attached.input.recv().await, None);
    assert_eq!(read_to_end(&mut attached.client).await, CLOSE);
}

#[tokio::test]
async fn a_client_that_speaks_something_else_is_let_go() {
    let mut attached = attach(false);
    attached.client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(read_to_end(&mut attached.client).await, CLOSE);
    attached.pump.await.unwrap();
}
