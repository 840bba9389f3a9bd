//! Docker's framing of stdout and stderr on one connection: a stream number, three zero bytes, the length as a
//! big-endian u32, the bytes.

use bytes::Bytes;

use crate::engine::OutputStream;

pub(in crate::api) const HEADER_BYTES: usize = 8;

/// `bytes` as frames on `stream`; a terminal's bytes go as they are. Frames are as long as their bytes, which came
/// through buffers far below 4 GiB.
pub(in crate::api) fn frame(stream: OutputStream, bytes: &Bytes) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(bytes.len()).expect("output comes in chunks that are far below 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [number(stream), 0, 0, 0, a, b, c, d]
}

fn number(stream: OutputStream) -> u8 {
    match stream {
        OutputStream::Stdout => 1,
        OutputStream::Stderr => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_its_stream_and_its_length_in_network_order() {
        let bytes = Bytes::from(vec![0; 0x0102]);
        assert_eq!(frame(OutputStream::Stdout, &bytes), [1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(frame(OutputStream::Stderr, &Bytes::new()), [2, 0, 0, 0, 0, 0, 0, 0]);
    }
}
