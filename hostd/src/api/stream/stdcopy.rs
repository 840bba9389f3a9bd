//! Docker's framing of stdout and stderr on one connection: a stream number, three zero bytes, the length as a
//! big-endian u32, the bytes.

use crate::engine::OutputStream;

pub(in crate::api) const HEADER_BYTES: usize = 8;

/// The header of so many bytes on `stream`; a terminal's bytes have none. Frames are as long as their bytes, which came
/// through buffers far below 4 GiB.
pub(in crate::api) fn frame(stream: OutputStream, length: usize) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(length).expect("output comes in chunks that are far below 4 GiB");
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
        assert_eq!(frame(OutputStream::Stdout, 0x0102), [1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(frame(OutputStream::Stderr, 0), [2, 0, 0, 0, 0, 0, 0, 0]);
    }
}
