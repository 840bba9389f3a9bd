//! The pump between a client's connection and an attachment, over a pair of sockets.

use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::connection::Presence;
use super::*;
use crate::engine::OutputStream;

struct Attached {
    client: UnixStream,
    output: mpsc::Sender<Output>,
    input: mpsc::Receiver<Input>,
    pump: JoinHandle<()>,
}

fn connected() -> (UnixStream, Connection) {
    let (client, server) = UnixStream::pair().unwrap();
    let presence = Presence::of(&server).unwrap();
    let (reader, writer) = server.into_split();
    (client, Connection { reader: Box::new(reader), writer: Box::new(writer), presence })
}

fn attach(terminal: bool) -> Attached {
    let (client, connection) = connected();
    let (output, output_receiver) = mpsc::channel(4);
    let (input_sender, input) = mpsc::channel(4);
    let attachment =
        Attachment { terminal, output: output_receiver, input: Some(input_sender), notice: None };
    let keys = terminal.then(DetachKeys::default);
    Attached { client, output, input, pump: tokio::spawn(run(connection, attachment, keys)) }
}

fn chunk(stream: OutputStream, bytes: &'static [u8]) -> Output {
    Output { stream, bytes: Bytes::from_static(bytes) }
}

async fn read_to_end(client: &mut UnixStream) -> Vec<u8> {
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    received
}

#[tokio::test]
async fn both_streams_arrive_framed_and_the_connection_ends_with_the_output() {
    let mut attached = attach(false);
    attached.output.send(chunk(OutputStream::Stdout, b"out")).await.unwrap();
    attached.output.send(chunk(OutputStream::Stderr, b"er")).await.unwrap();
    drop(attached.output);
    let expected = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x02er";
    assert_eq!(read_to_end(&mut attached.client).await, expected);
    attached.pump.await.unwrap();
}

#[test]
fn only_docker_py_needs_time_for_the_head() {
    let pause = |agent: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, agent.parse().unwrap());
        pause_after_head(&headers)
    };
    assert_eq!(pause("docker-sdk-python/7.2.0"), DOCKER_PY_PAUSE);
    assert_eq!(pause("Docker-Client/28.2.2 (linux)"), Duration::ZERO);
    assert_eq!(pause_after_head(&HeaderMap::new()), Duration::ZERO);
}

#[tokio::test]
async fn the_end_of_the_input_leaves_the_output_open() {
    let mut attached = attach(false);
    attached.client.write_all(b"in").await.unwrap();
    attached.client.shutdown().await.unwrap();
    assert_eq!(attached.input.recv().await, Some(Input::Bytes(Bytes::from_static(b"in"))));
    assert_eq!(attached.input.recv().await, Some(Input::End));
    attached.output.send(chunk(OutputStream::Stdout, b"late")).await.unwrap();
    drop(attached.output);
    assert!(read_to_end(&mut attached.client).await.ends_with(b"late"));
}

#[tokio::test]
async fn detach_keys_end_the_connection_and_not_the_input() {
    let mut attached = attach(true);
    attached.client.write_all(b"a\x10\x11b").await.unwrap();
    assert_eq!(attached.input.recv().await, Some(Input::Bytes(Bytes::from_static(b"a"))));
    assert_eq!(attached.input.recv().await, None);
    assert_eq!(read_to_end(&mut attached.client).await, b"");
    assert!(attached.output.is_closed());
}

#[tokio::test]
async fn on_a_terminal_the_end_of_typing_is_a_detach() {
    let mut attached = attach(true);
    attached.client.shutdown().await.unwrap();
    assert_eq!(attached.input.recv().await, None);
    assert!(attached.output.is_closed());
    attached.pump.await.unwrap();
}

#[tokio::test]
async fn who_only_watches_a_terminal_has_nothing_to_detach() {
    let (mut client, connection) = connected();
    let (sender, output) = mpsc::channel(4);
    let attachment = Attachment { terminal: true, output, input: None, notice: None };
    let pump = tokio::spawn(run(connection, attachment, Some(DetachKeys::default())));
    client.shutdown().await.unwrap();
    sender.send(chunk(OutputStream::Stdout, b"late")).await.unwrap();
    drop(sender);
    assert_eq!(read_to_end(&mut client).await, b"late");
    pump.await.unwrap();
}

#[tokio::test]
async fn in_a_pipe_the_keys_are_data() {
    let mut attached = attach(false);
    attached.client.write_all(b"\x10\x11").await.unwrap();
    assert_eq!(attached.input.recv().await, Some(Input::Bytes(Bytes::from_static(b"\x10\x11"))));
}

#[tokio::test]
async fn a_client_that_went_away_ends_the_pump_with_the_next_output() {
    let attached = attach(true);
    drop(attached.client);
    attached.output.send(chunk(OutputStream::Stdout, b"x")).await.unwrap();
    attached.pump.await.unwrap();
}

#[tokio::test]
async fn a_client_that_went_away_is_forgotten_although_nothing_is_printed() {
    let mut attached = attach(false);
    drop(attached.client);
    assert_eq!(attached.input.recv().await, Some(Input::End));
    attached.output.closed().await;
    attached.pump.await.unwrap();
}
