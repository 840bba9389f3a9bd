//! Other servers, asked on somebody's behalf: one after the other, with numbers of our own.
//!
//! Messages go as they came, but for their ids: what a guest can guess would let it answer in a server's place.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::question::Transport;

/// How long one server may take, as with Docker.
const DEADLINE: Duration = Duration::from_secs(4);
/// As many as resolv.conf(5) takes.
const MAX_SERVERS: usize = 3;
const MAX_MESSAGE_BYTES: usize = u16::MAX as usize;
const HEADER_BYTES: usize = 12;
/// Of the third and the fourth byte of the header (RFC 1035, section 4.1.1).
const IS_ANSWER: u8 = 0x80;
const IS_TRUNCATED: u8 = 0x02;
const CODE: u8 = 0x0f;
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// The answer of the first server that has one, with the question's own id; nothing if none of them answers in time. Of
/// servers that all fail, the last one's word.
pub async fn ask(servers: &[SocketAddr], question: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut failed = None;
    for server in servers.iter().take(MAX_SERVERS) {
        match timeout(DEADLINE, ask_one(*server, question, transport)).await {
            Ok(Ok(answer)) if is_failure(&answer) => failed = Some(answer),
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a name server is not to be reached"),
            Err(_elapsed) => tracing::debug!(%server, "a name server has not answered"),
        }
    }
    failed
}

/// By datagram, and by stream where that does not hold the whole answer and whoever asks could take it.
async fn ask_one(server: SocketAddr, question: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
    let id = rand::random::<[u8; 2]>();
    let asked = with_id(question, id)?;
    let answer = ask_by_datagram(server, &asked).await?;
    let is_cut = answer.get(2).is_some_and(|flags| flags & IS_TRUNCATED != 0);
    let answer = match transport {
        Transport::Stream if is_cut => ask_by_stream(server, &asked).await?,
        Transport::Stream | Transport::Datagram => answer,
    };
    with_id(&answer, [question[0], question[1]])
}

async fn ask_by_datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A port of its own for each question, and connected: what others send is not received.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = buffer.get(..length).filter(|answer| is_answer_to(answer, question)) {
            return Ok(answer.to_vec());
        }
    }
}

async fn ask_by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if is_answer_to(&answer, question) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn with_id(message: &[u8], id: [u8; 2]) -> io::Result<Vec<u8>> {
    let rest = message.get(2..).filter(|_| message.len() >= HEADER_BYTES);
    Ok([&id, rest.ok_or(io::ErrorKind::InvalidData)?].concat())
}

/// It bears the question's id, and the question itself unless it leaves that out. Letters may be of either case.
fn is_answer_to(answer: &[u8], question: &[u8]) -> bool {
    let Some(header) = answer.get(..HEADER_BYTES) else { return false };
    let no_question = header[4..6] == [0, 0];
    let asked = question_section(question).unwrap_or_default();
    let repeated = answer.get(HEADER_BYTES..HEADER_BYTES + asked.len());
    header[..2] == question[..2]
        && header[2] & IS_ANSWER != 0
        && (no_question || repeated.is_some_and(|repeated| repeated.eq_ignore_ascii_case(asked)))
}

/// The bytes of the first question: a name that nothing comes before, so that it is written out; type and class.
fn question_section(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => return message.get(HEADER_BYTES..at + 4),
            1..=63 => at += length,
            _ => return None,
        }
    }
}

fn is_failure(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| matches!(flags & CODE, SERVER_FAILURE | REFUSED))
}

#[cfg(test)]
mod tests;
