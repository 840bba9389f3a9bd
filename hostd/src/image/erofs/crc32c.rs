//! CRC-32C as EROFS uses it: Castagnoli's polynomial, seeded with ones, not inverted at the end.

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// One superblock's worth of bytes a disk: a table would be wasted on it.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_published_check_value() {
        // RFC 3720 publishes the inverted form.
        assert_eq!(!checksum(b"123456789"), 0xe306_9283);
    }
}
