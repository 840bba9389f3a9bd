//! The verb AssumeIdentity: a restored copy of a machine becomes one of its own.
//!
//! Everything that its equals would share is replaced: the time, randomness, names, addresses of network cards, and what
//! was read of disks that are others now. What processes have drawn from the old randomness stays theirs.

use std::ops::RangeInclusive;
use std::path::Path;

use berth_protocol::agent::{AssumeIdentity, ErrorCode, NetworkCard};
use rustix::fs::{Mode, OFlags};

use crate::agent::Agent;
use crate::container::request;
use crate::failure::{During, Failure};
use crate::network::{self, MacAddress};
use crate::{clock, entropy, sys};

/// Enough for the generator's whole key, and what one call adds to the pool.
const ENTROPY_BYTES: RangeInclusive<usize> = 32..=sys::MAX_ENTROPY_BYTES;
const MACHINE_ID_DIGITS: usize = 32;
/// `IFNAMSIZ` of Linux, without the zero at the end.
const MAX_INTERFACE_NAME_BYTES: usize = 15;

/// # Errors
/// INVALID_REQUEST naming the field, before anything has changed; then the first step that failed.
pub(crate) fn assume(agent: &Agent, request: &AssumeIdentity) -> Result<(), Failure> {
    let cards = check(request)?;
    clock::set_unix_time(request.unix_time_ns).during(ErrorCode::InvalidRequest, || "set the clock")?;
    entropy::reseed(&request.entropy).during(ErrorCode::Internal, || "reseed the random generator")?;
    rustix::system::sethostname(request.hostname.as_bytes())
        .during(ErrorCode::Internal, || "set the host name")?;
    agent.machine_id.replace(Some(request.machine_id.clone()));
    for disk in &request.rebound_disks {
        forget_disk(disk).during(ErrorCode::MountFailed, || format!("forget what was read of {disk}"))?;
    }
    for (interface, address) in cards {
        network::replace_mac_address(interface, address)
            .during(ErrorCode::Internal, || format!("give {interface} the address {address}"))?;
    }
    Ok(())
}

/// The cards, understood.
fn check(request: &AssumeIdentity) -> Result<Vec<(&str, MacAddress)>, Failure> {
    if request.unix_time_ns <= 0 {
        return Err(Failure::invalid("unix_time_ns is not after 1970"));
    }
    if !ENTROPY_BYTES.contains(&request.entropy.len()) {
        return Err(Failure::invalid(format!("entropy is not of {ENTROPY_BYTES:?} bytes")));
    }
    let name = request.hostname.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !(1..=request::MAX_HOSTNAME_BYTES).contains(&name.len()) || !name.iter().all(plain) {
        return Err(Failure::invalid(format!("hostname {:?} is no name", request.hostname)));
    }
    check_machine_id(&request.machine_id)?;
    request.rebound_disks.iter().try_for_each(|disk| request::check_disk("rebound_disks", disk))?;
    request.network_cards.iter().map(check_card).collect()
}

fn check_machine_id(id: &str) -> Result<(), Failure> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let zero = id.bytes().all(|byte| byte == b'0');
    if id.len() == MACHINE_ID_DIGITS && id.bytes().all(digit) && !zero {
        return Ok(());
    }
    Err(Failure::invalid(format!("machine_id {id:?} is not {MACHINE_ID_DIGITS} hexadecimal digits")))
}

/// An interface's name also becomes a path.
fn check_card(card: &NetworkCard) -> Result<(&str, MacAddress), Failure> {
    let name = card.interface.as_str();
    let length = 1..=MAX_INTERFACE_NAME_BYTES;
    if !length.contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Failure::invalid(format!("network_cards.interface {name:?} is no name")));
    }
    let address = MacAddress::of_one_station(&card.mac_address).ok_or_else(|| {
        Failure::invalid(format!("{name}: {:02x?} is no station's address", card.mac_address))
    })?;
    Ok((name, address))
}

/// An exclusive open fails for as long as a file system on the disk lives.
fn forget_disk(disk: &str) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    sys::drop_block_cache(rustix::fs::open(Path::new("/dev").join(disk), flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AssumeIdentity {
        AssumeIdentity {
            unix_time_ns: 1,
            entropy: vec![7; 32],
            hostname: "copy-1".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            network_cards: vec![NetworkCard {
                interface: "eth0".into(),
                mac_address: vec![2, 0, 0, 0, 0, 1],
            }],
            rebound_disks: vec!["vdb".into()],
        }
    }

    #[test]
    fn an_identity_is_whole_or_refused() {
        assert_eq!(check(&request()).unwrap().len(), 1);
        let card = |interface: &str, mac_address: &[u8]| {
            vec![NetworkCard { interface: interface.into(), mac_address: mac_address.into() }]
        };
        let one_station = [2, 0, 0, 0, 0, 1];
        let bad = [
            AssumeIdentity { unix_time_ns: -1, ..request() },
            AssumeIdentity { entropy: vec![7; 31], ..request() },
            AssumeIdentity { entropy: vec![7; 513], ..request() },
            AssumeIdentity { hostname: String::new(), ..request() },
            AssumeIdentity { hostname: "a\nb".into(), ..request() },
            AssumeIdentity { hostname: "x".repeat(65), ..request() },
            AssumeIdentity { machine_id: "0".repeat(32), ..request() },
            AssumeIdentity { machine_id: "ABCDEF0123456789ABCDEF0123456789".into(), ..request() },
            AssumeIdentity { machine_id: "12".into(), ..request() },
            AssumeIdentity { rebound_disks: vec!["../sda".into()], ..request() },
            AssumeIdentity { network_cards: card("", &one_station), ..request() },
            AssumeIdentity { network_cards: card("../lo", &one_station), ..request() },
            AssumeIdentity { network_cards: card("eth0", &one_station[1..]), ..request() },
            AssumeIdentity { network_cards: card("eth0", &[3, 0, 0, 0, 0, 1]), ..request() },
            AssumeIdentity { network_cards: card("eth0", &[0; 6]), ..request() },
        ];
        for request in bad {
            assert_eq!(check(&request).unwrap_err().code, ErrorCode::InvalidRequest, "{request:?}");
        }
    }
}
