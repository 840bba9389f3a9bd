//! The client against agents that answer well, late, out of order, or not at all, on a unix socket.

use berth_protocol::agent::archive_piece::Piece;
use berth_protocol::agent::{AgentError, ArchivePiece, Done, StreamHeader, StreamKind, StreamReply};
use tokio::io::AsyncBufReadExt;
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// A machine's vsock socket whose guest end the test plays.
struct Guest {
    directory: tempfile::TempDir,
    listener: UnixListener,
}

impl Guest {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("vsock.sock")).unwrap();
        Self { directory, listener }
    }

    async fn accept(&self) -> BufReader<UnixStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("CONNECT "), "{line}");
        stream.write_all(b"OK 5\n").await.unwrap();
        stream
    }

    async fn client(&self) -> (AgentClient, BufReader<UnixStream>) {
        let path = self.directory.path().join("vsock.sock");
        let (client, guest) = tokio::join!(AgentClient::connect(&path), self.accept());
        (client.unwrap(), guest)
    }
}

async fn reply(guest: &mut BufReader<UnixStream>, id: u64, result: ReplyResult) {
    let frame = frame::encode(&Reply { id, result: Some(result) }).unwrap();
    guest.write_all(&frame).await.unwrap();
}

#[tokio::test]
async fn replies_out_of_order_reach_those_who_asked() {
    let guest = Guest::new();
    let (client, mut connection) = guest.client().await;
    let agent = async {
        let first: Request = read_frame(&mut connection).await.unwrap();
        let second: Request = read_frame(&mut connection).await.unwrap();
        assert!(matches!(first.operation, Some(Operation::WaitProcess(_))));
        reply(&mut connection, second.id, ReplyResult::Done(Done {})).await;
        reply(
            &mut connection,
            first.id,
            ReplyResult::ExitStatus(ExitStatus { code: 7, ..Default::default() }),
        )
        .await;
    };
    let (exit, signalled, ()) = tokio::join!(client.wait("a"), client.signal("a", 15), agent);
    assert_eq!(exit.unwrap().code, 7);
    signalled.unwrap();
}

#[tokio::test]
async fn an_agents_error_keeps_its_code_and_text() {
    let guest = Guest::new();
    let (client, mut connection) = guest.client().await;
    let agent = async {
        let request: Request = read_frame(&mut connection).await.unwrap();
        let error = AgentError { code: ErrorCode::NoSuchProcess.into(), message: "gone".into() };
        reply(&mut connection, request.id, ReplyResult::Error(error)).await;
    };
    let (outcome, ()) = tokio::join!(client.signal("a", 15), agent);
    let Err(CallError::Agent { code: ErrorCode::NoSuchProcess, message }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(message, "gone");
}

#[tokio::test]
async fn a_connection_that_ends_fails_those_who_wait_and_those_who_come_later() {
    let guest = Guest::new();
    let (client, connection) = guest.client().await;
    let (waited, ()) = tokio::join!(client.wait("a"), async { drop(connection) });
    assert!(matches!(waited, Err(CallError::Lost)), "{waited:?}");
    assert!(matches!(client.ping().await, Err(CallError::Lost)));
}

#[tokio::test]
async fn a_guest_that_does_not_answer_in_time_is_named_by_what_was_waited_for() {
    let guest = Guest::new();
    let (client, _connection) = guest.client().await;
    let outcome = within(Duration::from_millis(10), "a signal to be passed on", client.signal("a", 15)).await;
    let message = outcome.unwrap_err().to_string();
    assert_eq!(message, "the agent has not answered within 0 s: waited for a signal to be passed on");
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_still_arrives_whole() {
    let guest = Guest::new();
    let (client, mut connection) = guest.client().await;
    // More than the sockets hold: it is cut in the middle of being sent.
    let process = agent::Process { args: vec!["x".repeat(1 << 20)], ..agent::Process::default() };
    let request = agent::StartExec { container_id: "a".into(), process: Some(process) };
    let given_up = within(Duration::from_millis(50), "a start", client.start_exec(request)).await;
    assert!(matches!(given_up, Err(CallError::Deadline { .. })), "{given_up:?}");
    let agent = async {
        let first: Request = read_frame(&mut connection).await.unwrap();
        assert!(matches!(first.operation, Some(Operation::StartExec(_))));
        let second: Request = read_frame(&mut connection).await.unwrap();
        reply(&mut connection, second.id, ReplyResult::Done(Done {})).await;
    };
    let (signalled, ()) = tokio::join!(client.signal("a", 15), agent);
    signalled.unwrap();
}

#[tokio::test]
async fn an_agent_that_claims_a_huge_frame_is_cut_off() {
    let guest = Guest::new();
    let (client, mut connection) = guest.client().await;
    connection.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let outcome = client.ping().await;
    assert!(matches!(outcome, Err(CallError::Lost)), "{outcome:?}");
}

#[tokio::test]
async fn output_starts_at_the_agents_offset_and_counts_from_there() {
    let guest = Guest::new();
    let (client, _requests) = guest.client().await;
    let agent = async {
        let mut stream = guest.accept().await;
        let header: StreamHeader = read_frame(&mut stream).await.unwrap();
        assert_eq!((header.offset, header.kind()), (100, StreamKind::Stdout));
        stream
            .write_all(&frame::encode(&StreamReply { offset: 100, ..StreamReply::default() }).unwrap())
            .await
            .unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.read_u64_le().await.unwrap()
    };
    let host = async {
        let mut output = client.output("a", StreamKind::Stdout, 100).await.unwrap();
        assert_eq!(output.read().await.unwrap().unwrap(), "hello");
        output.acknowledge(output.offset()).await.unwrap();
    };
    let (acknowledged, ()) = tokio::join!(agent, host);
    assert_eq!(acknowledged, 105);
}

#[tokio::test]
async fn stdin_is_chunks_and_an_end() {
    let guest = Guest::new();
    let (client, _requests) = guest.client().await;
    let agent = async {
        let mut stream = guest.accept().await;
        let _header: StreamHeader = read_frame(&mut stream).await.unwrap();
        stream.write_all(&frame::encode(&StreamReply::default()).unwrap()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    let host = async {
        let mut input = client.input("a").await.unwrap();
        input.write(b"hi").await.unwrap();
        input.end().await.unwrap();
    };
    let (bytes, ()) = tokio::join!(agent, host);
    assert_eq!(bytes, b"\x02\0\0\0hi\0\0\0\0");
}

#[tokio::test]
async fn an_archive_is_whole_only_if_the_agent_says_so() {
    let guest = Guest::new();
    let (client, _requests) = guest.client().await;
    let content = Piece::Content(b"half".to_vec());
    let error = AgentError { code: ErrorCode::Internal.into(), message: "/a: input/output error".into() };
    let ends = [Some(Piece::End(Done {})), Some(Piece::Error(error)), None];
    let mut outcomes = Vec::new();
    for end in ends {
        let agent = async {
            let mut stream = guest.accept().await;
            let header: StreamHeader = read_frame(&mut stream).await.unwrap();
            assert_eq!(header.read_archive.unwrap().container_id, "a");
            stream.write_all(&frame::encode(&StreamReply::default()).unwrap()).await.unwrap();
            for piece in [Some(content.clone()), end].into_iter().flatten() {
                stream
                    .write_all(&frame::encode(&ArchivePiece { piece: Some(piece) }).unwrap())
                    .await
                    .unwrap();
            }
        };
        let host = async {
            let mut archive = client.read_archive("a").await.unwrap();
            assert_eq!(archive.next().await.unwrap().unwrap(), "half");
            archive.next().await
        };
        outcomes.push(tokio::join!(agent, host).1);
    }
    assert!(matches!(outcomes[0], Ok(None)), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Err(CallError::Agent { message, .. }) if message.starts_with("/a: ")));
    assert!(matches!(outcomes[2], Err(CallError::Lost)), "{outcomes:?}");
}
