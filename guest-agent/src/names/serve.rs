//! The two sockets of a name server, served: messages in, messages out (RFC 1035, section 4.2).

use std::io;
use std::rc::Rc;
use std::time::Duration;

use berth_protocol::agent::NameQuery;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::NameRelay;

/// What clients announce for answers (RFC 6891, section 6.2.5); no question needs more.
const MAX_QUESTION_BYTES: usize = 4096;
const HEADER_BYTES: usize = 12;
/// Of one container. One more waits until another closes, or is closed.
const MAX_CONNECTIONS: usize = 32;
/// Between two questions of a connection (RFC 7766, section 6.2.3).
const IDLE_DEADLINE: Duration = Duration::from_secs(10);
/// After an error that is not one client's: out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves questions that come as datagrams, each by itself. Does not end.
pub(super) async fn datagrams(relay: Rc<NameRelay>, socket: UdpSocket) {
    let socket = Rc::new(socket);
    let mut buffer = vec![0; MAX_QUESTION_BYTES + 1];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            sleep(PAUSE).await;
            continue;
        };
        let Some(message) = buffer.get(..length).filter(|message| is_question(message)) else { continue };
        let (relay, socket, message) = (Rc::clone(&relay), Rc::clone(&socket), message.to_vec());
        spawn_local(async move {
            let answer = answer(&relay, message, false).await;
            if !answer.is_empty() {
                // Whoever asked may have gone.
                let _unwanted = socket.send_to(&answer, from).await;
            }
        });
    }
}

/// Serves connections, whose questions are answered one after the other. Does not end.
pub(super) async fn connections(relay: Rc<NameRelay>, listener: TcpListener) {
    let places = std::sync::Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = std::sync::Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        let Ok((connection, _from)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let relay = Rc::clone(&relay);
        spawn_local(async move {
            // It breaks off for whoever asked, too.
            let _broken = serve_connection(&relay, connection).await;
            drop(place);
        });
    }
}

async fn serve_connection(relay: &NameRelay, mut connection: TcpStream) -> io::Result<()> {
    loop {
        let message = timeout(IDLE_DEADLINE, read_message(&mut connection)).await??;
        if !is_question(&message) {
            return Ok(());
        }
        let answer = answer(relay, message, true).await;
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        if length == 0 {
            return Ok(());
        }
        let written = [&length.to_be_bytes(), answer.as_slice()].concat();
        timeout(IDLE_DEADLINE, connection.write_all(&written)).await??;
    }
}

async fn read_message(connection: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = connection.read_u16().await?;
    let mut message = Vec::new();
    connection.take(length.into()).read_to_end(&mut message).await?;
    if message.len() == usize::from(length) { Ok(message) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A message that could be answered at all: not an answer itself, or two servers would go on for ever.
fn is_question(message: &[u8]) -> bool {
    (HEADER_BYTES..=MAX_QUESTION_BYTES).contains(&message.len())
        && message.get(2).is_some_and(|flags| flags & 0x80 == 0)
}

/// The host's answer, or what says that there is none now.
async fn answer(relay: &NameRelay, message: Vec<u8>, by_tcp: bool) -> Vec<u8> {
    let query = |id| NameQuery { id, message: message.clone(), by_tcp };
    match relay.ask(query).await {
        Some(answer) => answer,
        None => server_failure(message),
    }
}

/// The question itself, as an answer with the code SERVFAIL (RFC 1035, section 4.1.1).
fn server_failure(mut message: Vec<u8>) -> Vec<u8> {
    if let Some([flags, more]) = message.get_mut(2..4) {
        *flags |= 0x80;
        *more = *more & 0x70 | 0x80 | 2;
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_no_question() {
        let mut message = vec![0; 12];
        assert!(is_question(&message));
        message[2] = 0x80;
        assert!(!is_question(&message));
        assert!(!is_question(&[0; 11]));
        assert!(!is_question(&[0; MAX_QUESTION_BYTES + 1]));
    }

    #[test]
    fn a_failure_bears_the_questions_id_and_question() {
        let question = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\0\x02db\0\0\x01\0\x01".to_vec();
        let failure = server_failure(question.clone());
        assert_eq!(failure[..4], [0x12, 0x34, 0x81, 0xa2]);
        assert_eq!(failure[4..], question[4..]);
        assert_eq!(server_failure(vec![1]), [1], "nothing panics");
    }
}
