//! Whole frames over a connection; their form is [`berth_protocol::frame`].

use std::io;

use berth_protocol::frame;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The next message, or `None` if the connection ended between two.
///
/// # Errors
/// A broken connection, or bytes that are no such message.
pub(super) async fn read<M: Message + Default>(
    connection: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<M>> {
    let mut header = [0; frame::HEADER_BYTES];
    match connection.read_exact(&mut header[..1]).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        first => first?,
    };
    connection.read_exact(&mut header[1..]).await?;
    let length = frame::payload_length(header).map_err(io::Error::other)?;
    // Grows with what arrives: a claimed length alone costs no memory.
    let mut payload = Vec::new();
    let limit = u64::try_from(length).expect("bounded by the frame's limit");
    if connection.take(limit).read_to_end(&mut payload).await? != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    frame::decode(&payload).map(Some).map_err(io::Error::other)
}

/// # Errors
/// A broken connection, or a message over the frame's limit.
pub(super) async fn write(
    connection: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> io::Result<()> {
    let frame = frame::encode(message).map_err(io::Error::other)?;
    connection.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_protocol::agent::{Ping, Request, request::Operation};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn messages_arrive_one_after_the_other() {
        let sent = [1, 2].map(|id| Request { id, operation: Some(Operation::Ping(Ping {})) });
        let mut bytes = Vec::new();
        block_on(async {
            for message in &sent {
                write(&mut bytes, message).await.unwrap();
            }
            let mut connection = bytes.as_slice();
            for message in sent {
                assert_eq!(read::<Request>(&mut connection).await.unwrap(), Some(message));
            }
            assert_eq!(read::<Request>(&mut connection).await.unwrap(), None);
        });
    }

    #[test]
    fn a_frame_that_stops_half_way_is_an_error() {
        block_on(async {
            for bytes in [&[9, 0][..], &[9, 0, 0, 0], &[9, 0, 0, 0, 1, 2]] {
                let mut connection = bytes;
                assert!(read::<Request>(&mut connection).await.is_err(), "{bytes:?}");
            }
        });
    }

    #[test]
    fn an_impossible_length_is_refused() {
        let mut connection = &[0xff; 64][..];
        assert!(block_on(read::<Request>(&mut connection)).is_err());
    }
}
