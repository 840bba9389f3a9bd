//! What a machine has beyond what it is started with, to be bound while it runs: as much as there are places for.

use std::iter;

use berth_vmm::config::{
    Accelerator, CardRates, MAX_EMULATED_DEVICES, MAX_NETWORK_CARDS, MacAddress, NetworkCardConfig,
};

use super::Devices;

/// That every machine has, whatever else: the socket to its agent and the source of randomness.
pub(super) const STANDARD_DEVICES: usize = 2;

/// Adds the spare cards that are wanted, behind all others: what a machine is started for comes first, then the disk
/// that makes room for further containers. Who looks into a container comes more often than a network that it lacks.
pub(super) fn add(accelerator: Accelerator, devices: &mut Devices) {
    let cards = devices.network_cards.len();
    let further = usize::from(devices.shares.is_some()) + usize::from(devices.spare_disk);
    let taken = STANDARD_DEVICES + devices.disks.len() + cards + further;
    let places = match accelerator {
        Accelerator::Tcg => MAX_EMULATED_DEVICES.saturating_sub(taken),
        Accelerator::Kvm => usize::MAX,
    };
    let spare = devices.spare_cards.min(places).min(MAX_NETWORK_CARDS.saturating_sub(cards));
    devices.network_cards.extend(iter::repeat_with(spare_card).take(spare));
}

/// Whoever binds it says what address it has then.
fn spare_card() -> NetworkCardConfig {
    let [_, b, c, d, e, f] = rand::random::<[u8; 6]>();
    NetworkCardConfig {
        mac: MacAddress([0x02, b, c, d, e, f]),
        tap: None,
        gateway: None,
        mtu: None,
        rates: CardRates::default(),
    }
}

#[cfg(test)]
mod tests {
    use berth_vmm::config::DiskAccess;

    use super::super::Disk;
    use super::*;

    fn cards(accelerator: Accelerator, cards: usize, shares: bool) -> usize {
        let disk = || Disk { access: DiskAccess::ReadOnly, extents: Vec::new() };
        let mut devices = Devices {
            disks: vec![disk(), disk()],
            network_cards: iter::repeat_with(spare_card).take(cards).collect(),
            spare_cards: 2,
            spare_disk: true,
            gateway: None,
            shares: shares.then(Vec::new),
        };
        add(accelerator, &mut devices);
        assert!(devices.network_cards[cards..].iter().all(|card| card.tap.is_none()));
        devices.network_cards.len() - cards
    }

    #[test]
    fn what_a_machine_is_started_for_comes_before_its_spares() {
        for (asked, shares, tcg, kvm) in [
            (1, false, 2, 2),
            (1, true, 1, 2),
            (2, false, 1, 2),
            (2, true, 0, 2),
            (3, true, 0, 2),
            (4, true, 0, 2),
            (7, false, 0, 1),
            (8, true, 0, 0),
        ] {
            let found = (cards(Accelerator::Tcg, asked, shares), cards(Accelerator::Kvm, asked, shares));
            assert_eq!(found, (tcg, kvm), "{asked} cards, shares: {shares}");
        }
    }
}
