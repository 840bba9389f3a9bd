//! Connecting to a port of the guest: one line each way, and from then on the bytes are the guest's.

use std::io;
use std::path::Path;
use std::time::Duration;

use memchr::memchr;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A connection to a port that nobody listens on is refused at once; this bounds a guest that does not answer.
const DEADLINE: Duration = Duration::from_secs(60);
/// "OK ", a port's number and the end of the line fit in well.
const MAX_ANSWER_BYTES: usize = 32;

/// Connects to a port of the guest behind `vsock_path`: the host says `CONNECT <port>`, the device answers `OK <port>`
/// or closes.
///
/// # Errors
/// Nobody listens on the port, or the machine is gone or silent.
pub(crate) async fn connect(vsock_path: &Path, port: u32) -> io::Result<UnixStream> {
    let handshake = async {
        let mut stream = UnixStream::connect(vsock_path).await?;
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
        if read_line(&stream).await?.starts_with(b"OK ") {
            return Ok(stream);
        }
        Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("nobody in the guest listens on port {port}"),
        ))
    };
    timeout(DEADLINE, handshake).await.map_err(|_elapsed| io::ErrorKind::TimedOut)?
}

/// The first line of what came, or what there was before the end. What follows the line stays where it is: so it is
/// looked at before it is taken, which is quicker than byte by byte.
async fn read_line(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut seen = [0; MAX_ANSWER_BYTES];
    while line.len() < MAX_ANSWER_BYTES {
        let look = || Ok(recv(stream, &mut seen, RecvFlags::PEEK)?.0);
        let count = stream.async_io(Interest::READABLE, look).await?;
        let end = memchr(b'\n', &seen[..count]);
        let wanted = end.map_or(count, |newline| newline + 1);
        let taken = stream.try_read(&mut seen[..wanted])?;
        line.extend_from_slice(&seen[..taken]);
        if end.is_some() || taken == 0 {
            break;
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn answer(pieces: &[&[u8]]) -> (io::Result<Vec<u8>>, UnixStream) {
        let (ours, mut device) = UnixStream::pair().unwrap();
        let says = async {
            for piece in pieces {
                device.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(device);
        };
        let (line, ()) = tokio::join!(read_line(&ours), says);
        (line, ours)
    }

    #[tokio::test]
    async fn what_follows_the_line_is_left_to_the_guests_reader() {
        for pieces in [&[&b"OK 1024\nguest"[..]][..], &[b"O", b"K 1024\ngu", b"est"]] {
            let (line, mut stream) = answer(pieces).await;
            assert_eq!(line.unwrap(), b"OK 1024\n");
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "guest");
        }
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_read_for_ever() {
        let (line, _stream) = answer(&[&[b'x'; 4096]]).await;
        assert!(line.unwrap().len() <= 2 * MAX_ANSWER_BYTES);
        assert_eq!(answer(&[]).await.0.unwrap(), b"");
    }
}
