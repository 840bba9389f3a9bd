//! The header before every frame (virtio 1.2, section 5.1.6), and what guests may ask for in it.
//!
//! The host's kernel acts on headers: it fills in checksums and cuts long frames. So what a guest says is checked
//! against the frame and against what was negotiated, in a copy that the guest cannot change any more.

use virtio_bindings::virtio_net as bindings;

/// With the number of buffers, which VERSION_1 brings.
pub(super) const HEADER_BYTES: usize = 12;
/// Where the number of buffers is.
pub(super) const BUFFER_COUNT: usize = 10;

/// Ethernet addresses and type; nothing shorter is a frame.
pub(super) const MIN_FRAME_BYTES: usize = 14;
/// The longest IP packet in a frame with a VLAN tag.
pub(super) const MAX_FRAME_BYTES: usize = 65535 + MIN_FRAME_BYTES + 4;

const NEEDS_CHECKSUM: u8 = 1;
/// The congestion bit beside the kind of segmentation.
const ECN: u8 = 0x80;

/// Kinds of segmentation, and the feature each needs.
const SEGMENTATIONS: [(u8, u32); 5] = [
    (1, bindings::VIRTIO_NET_F_HOST_TSO4),
    (3, bindings::VIRTIO_NET_F_HOST_UFO),
    (4, bindings::VIRTIO_NET_F_HOST_TSO6),
    (5, bindings::VIRTIO_NET_F_HOST_USO),
    (0, bindings::VIRTIO_NET_F_CSUM),
];

/// Whether a frame of `frame_bytes` with this header may go out, under these features. What only concerns the other
/// direction is cleared.
pub(super) fn admit(header: &mut [u8; HEADER_BYTES], frame_bytes: usize, features: u64) -> bool {
    let [flags, kind, ..] = *header;
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (segment_bytes, start, offset) = (half(4), usize::from(half(6)), usize::from(half(8)));
    let has = |feature: u32| features >> feature & 1 == 1;
    let needs_checksum = flags & NEEDS_CHECKSUM != 0;
    let length = (MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&frame_bytes);
    let checksum = !needs_checksum || has(bindings::VIRTIO_NET_F_CSUM) && start + offset + 2 <= frame_bytes;
    let known = SEGMENTATIONS.iter().find(|(known, _)| *known == kind & !ECN);
    let segmentation = match known {
        Some((0, _)) => kind == 0,
        Some((_, feature)) => has(*feature) && needs_checksum && segment_bytes > 0,
        None => false,
    };
    let congestion = kind & ECN == 0 || has(bindings::VIRTIO_NET_F_HOST_ECN);
    header[0] = flags & NEEDS_CHECKSUM;
    header[BUFFER_COUNT..].fill(0);
    length && checksum && segmentation && congestion
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << bindings::VIRTIO_NET_F_CSUM
        | 1 << bindings::VIRTIO_NET_F_HOST_TSO4
        | 1 << bindings::VIRTIO_NET_F_HOST_TSO6
        | 1 << bindings::VIRTIO_NET_F_HOST_ECN;

    fn header(flags: u8, kind: u8, segment: u16, start: u16, offset: u16) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&[flags, kind]);
        for (at, value) in [(4, segment), (6, start), (8, offset)] {
            header[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        header
    }

    #[test]
    fn only_what_was_negotiated_and_fits_goes_out() {
        let plain = header(0, 0, 0, 0, 0);
        let checksum = header(1, 0, 0, 34, 16);
        let segments = header(1, 1, 1448, 34, 16);
        for (what, header, bytes, features, goes) in [
            ("plain", plain, 60, 0, true),
            ("the shortest", plain, 14, 0, true),
            ("no frame", plain, 13, 0, false),
            ("nothing", plain, 0, 0, false),
            ("the longest", plain, MAX_FRAME_BYTES, 0, true),
            ("too long", plain, MAX_FRAME_BYTES + 1, 0, false),
            ("checksum", checksum, 60, ALL, true),
            ("checksum, not negotiated", checksum, 60, 0, false),
            ("checksum at the end", checksum, 52, ALL, true),
            ("checksum behind the end", checksum, 51, ALL, false),
            ("checksum far behind", header(1, 0, 0, u16::MAX, u16::MAX), 60, ALL, false),
            ("TCP segments", segments, 9000, ALL, true),
            ("with congestion", header(1, 0x81, 1448, 34, 16), 9000, ALL, true),
            (
                "congestion, not negotiated",
                header(1, 0x81, 1, 34, 16),
                9000,
                ALL & 0xffff & !(1 << 13),
                false,
            ),
            ("congestion of nothing", header(0, 0x80, 0, 0, 0), 60, ALL, false),
            ("segments, not negotiated", segments, 9000, 1, false),
            ("segments of no size", header(1, 1, 0, 34, 16), 9000, ALL, false),
            ("segments without checksum", header(0, 1, 1448, 0, 0), 9000, ALL, false),
            ("UDP, not negotiated", header(1, 5, 1448, 34, 6), 9000, ALL, false),
            ("an unknown kind", header(1, 2, 1448, 34, 16), 9000, u64::MAX, false),
        ] {
            assert_eq!(admit(&mut header.clone(), bytes, features), goes, "{what}");
        }
    }

    #[test]
    fn what_concerns_the_other_direction_is_cleared() {
        let mut all = [0xff; HEADER_BYTES];
        all[1] = 0;
        admit(&mut all, 60, ALL);
        assert_eq!((all[0], all[10], all[11]), (1, 0, 0));
    }
}
