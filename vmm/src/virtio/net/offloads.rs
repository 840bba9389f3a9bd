//! What the card can leave undone for the other side, in the words of virtio and in those of TAP interfaces.

use virtio_bindings::virtio_net as bindings;

/// Guest feature bits, the `TUN_F_` bits that TAP interfaces know them by, and the host's feature of the other
/// direction: a TAP interface takes whatever it can give.
const PAIRS: [(u32, u32, u32); 7] = [
    (bindings::VIRTIO_NET_F_GUEST_CSUM, libc::TUN_F_CSUM, bindings::VIRTIO_NET_F_CSUM),
    (bindings::VIRTIO_NET_F_GUEST_TSO4, libc::TUN_F_TSO4, bindings::VIRTIO_NET_F_HOST_TSO4),
    (bindings::VIRTIO_NET_F_GUEST_TSO6, libc::TUN_F_TSO6, bindings::VIRTIO_NET_F_HOST_TSO6),
    (bindings::VIRTIO_NET_F_GUEST_ECN, libc::TUN_F_TSO_ECN, bindings::VIRTIO_NET_F_HOST_ECN),
    (bindings::VIRTIO_NET_F_GUEST_UFO, libc::TUN_F_UFO, bindings::VIRTIO_NET_F_HOST_UFO),
    (bindings::VIRTIO_NET_F_GUEST_USO4, libc::TUN_F_USO4, bindings::VIRTIO_NET_F_HOST_USO),
    (bindings::VIRTIO_NET_F_GUEST_USO6, libc::TUN_F_USO6, bindings::VIRTIO_NET_F_HOST_USO),
];

/// The features that a TAP interface makes possible.
pub(super) fn features(known: u32) -> u64 {
    let possible = PAIRS.iter().filter(|(_, tap, _)| known & tap != 0);
    possible.fold(0, |features, (guest, _, host)| features | 1 << guest | 1 << host)
}

/// What the TAP interface may leave to a guest that negotiated these features. Without checksums none of it works.
pub(super) fn for_guest(features: u64) -> u32 {
    let wanted = PAIRS.iter().filter(|(guest, ..)| features >> guest & 1 == 1);
    let bits = wanted.fold(0, |bits, (_, tap, _)| bits | tap);
    if bits & libc::TUN_F_CSUM == 0 { 0 } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_undone_without_checksums() {
        let segments = 1 << bindings::VIRTIO_NET_F_GUEST_TSO4;
        assert_eq!(for_guest(segments), 0);
        let checksums = 1 << bindings::VIRTIO_NET_F_GUEST_CSUM;
        assert_eq!(for_guest(segments | checksums), libc::TUN_F_TSO4 | libc::TUN_F_CSUM);
    }

    #[test]
    fn a_host_that_knows_nothing_offers_nothing() {
        assert_eq!(features(0), 0);
        let both = 1 << bindings::VIRTIO_NET_F_GUEST_CSUM | 1 << bindings::VIRTIO_NET_F_CSUM;
        assert_eq!(features(libc::TUN_F_CSUM), both);
    }
}
