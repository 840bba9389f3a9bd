//! Length-prefixed frames over any bytes: a little-endian `u32` length, then that many bytes of one message.
//!
//! Knows no socket: callers read [`HEADER_BYTES`], ask [`payload_length`], read that many bytes, and [`decode`] them.

use prost::Message;

/// Bytes in front of every payload.
pub const HEADER_BYTES: usize = 4;

/// The largest payload either side accepts. A container with thousands of environment variables fits; a peer that
/// claims more is broken or hostile, and the connection is closed before anything is allocated.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {length} bytes is over the limit of {MAX_PAYLOAD_BYTES}")]
    TooLarge { length: usize },
    #[error("the frame's payload is not the expected message")]
    Malformed(#[from] prost::DecodeError),
}

/// The whole frame of one message.
///
/// # Errors
/// [`FrameError::TooLarge`] if the other side would refuse it.
pub fn encode(message: &impl Message) -> Result<Vec<u8>, FrameError> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_PAYLOAD_BYTES);
    let prefix = prefix.ok_or(FrameError::TooLarge { length })?;
    let mut frame = Vec::with_capacity(HEADER_BYTES + length);
    frame.extend_from_slice(&prefix.to_le_bytes());
    message.encode(&mut frame).expect("a Vec grows as needed");
    Ok(frame)
}

/// The number of payload bytes that follow this header.
///
/// # Errors
/// [`FrameError::TooLarge`] above [`MAX_PAYLOAD_BYTES`].
pub fn payload_length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Err(FrameError::TooLarge { length });
    }
    Ok(length)
}

/// One message from one payload.
///
/// # Errors
/// [`FrameError::Malformed`] if the bytes are no such message.
pub fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, FrameError> {
    Ok(M::decode(payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Request, Signal, request::Operation};
    use proptest::prelude::*;

    fn split(frame: &[u8]) -> ([u8; HEADER_BYTES], &[u8]) {
        let (header, payload) = frame.split_at(HEADER_BYTES);
        (header.try_into().unwrap(), payload)
    }

    proptest! {
        #[test]
        fn a_message_survives_its_frame(id: u64, process_id: String, signal: u32) {
            let sent = Request { id, operation: Some(Operation::Signal(Signal { process_id, signal })) };
            let frame = encode(&sent).unwrap();
            let (header, payload) = split(&frame);
            prop_assert_eq!(payload_length(header).unwrap(), payload.len());
            prop_assert_eq!(decode::<Request>(payload).unwrap(), sent);
        }

        #[test]
        fn garbage_is_an_error_or_a_message_but_never_a_panic(payload: Vec<u8>) {
            let _outcome = decode::<Request>(&payload);
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_allocating() {
        let header = u32::MAX.to_le_bytes();
        assert!(matches!(payload_length(header), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn a_message_over_the_limit_is_not_sent() {
        let signal = Signal { process_id: "x".repeat(MAX_PAYLOAD_BYTES), signal: 0 };
        let request = Request { id: 1, operation: Some(Operation::Signal(signal)) };
        assert!(matches!(encode(&request), Err(FrameError::TooLarge { .. })));
    }
}
