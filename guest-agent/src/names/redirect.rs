//! The way from the address that programs know to the port where their name server is.
//!
//! The server must not have port 53 itself: a container may be a name server, and listen there on all addresses. So
//! sockets that go to 127.0.0.11:53 go to the server's port instead, and see answers come from where they sent to. Programs
//! at the sockets' system calls do that (`BPF_PROG_TYPE_CGROUP_SOCK_ADDR`): for all containers of the machine, and each for
//! the sockets of one network namespace only.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use crate::bpf::{self, EXIT, SocketCall, instruction};

/// Docker's, which programs and people know.
pub(super) const KNOWN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);

/// Where `struct bpf_sock_addr` has the address and the port of the other side.
const IPV4_OFFSET: i16 = 4;
const IPV6_OFFSET: i16 = 8;
const PORT_OFFSET: i16 = 24;
/// `BPF_FUNC_get_netns_cookie`.
const GET_NAMESPACE_COOKIE: i32 = 122;

/// Each direction of each system call that has an address; those of IPv6 for what is mapped into it (RFC 4291, section
/// 2.5.5.2).
const CALLS: [(SocketCall, Way, Version); 6] = [
    (SocketCall::Connect4, Way::There, Version::V4),
    (SocketCall::Connect6, Way::There, Version::MappedV4),
    (SocketCall::SendMessage4, Way::There, Version::V4),
    (SocketCall::ReceiveMessage4, Way::Back, Version::V4),
    (SocketCall::ReceiveMessage6, Way::Back, Version::MappedV4),
    (SocketCall::GetPeerName4, Way::Back, Version::V4),
];

#[derive(Clone, Copy)]
enum Way {
    There,
    Back,
}

#[derive(Clone, Copy)]
enum Version {
    V4,
    MappedV4,
}

/// It is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Redirect {
    _links: Vec<OwnedFd>,
}

/// Leads the sockets of the network namespace with that cookie, of processes in that cgroup.
///
/// # Errors
/// What bpf(2) returned.
pub(super) fn lead(cgroup: impl AsFd, namespace_cookie: u64, port: u16) -> io::Result<Redirect> {
    let link = |(call, way, version)| {
        let program = bpf::load_socket_program(call, &program(way, version, namespace_cookie, port))?;
        bpf::link_socket_program(call, &cgroup, program)
    };
    Ok(Redirect { _links: CALLS.into_iter().map(link).collect::<io::Result<_>>()? })
}

/// Registers: the context is kept in 6, what is compared is in 2, what a helper answers in 0.
fn program(way: Way, version: Version, namespace_cookie: u64, port: u16) -> Vec<u64> {
    let (from, to) = match way {
        Way::There => (KNOWN.port(), port),
        Way::Back => (port, KNOWN.port()),
    };
    let mut comparisons = address_words(version);
    comparisons.push((PORT_OFFSET, in_network_order(from)));
    let change = [
        // The context is the helper's argument.
        instruction(0xbf, 1, 6, 0, 0),
        instruction(0x85, 0, 0, 0, GET_NAMESPACE_COOKIE),
        // A constant of 64 bits takes two instructions.
        instruction(0x18, 2, 0, 0, low(namespace_cookie)),
        instruction(0, 0, 0, 0, low(namespace_cookie >> 32)),
        // BPF_JMP | BPF_JNE | BPF_X
        instruction(0x5d, 0, 2, 2, 0),
        instruction(0xb4, 2, 0, 0, in_network_order(to)),
        // BPF_STX | BPF_MEM | BPF_W
        instruction(0x63, 6, 2, PORT_OFFSET, 0),
    ];
    let mut program = vec![instruction(0xbf, 6, 1, 0, 0)];
    for (number, (offset, word)) in comparisons.iter().enumerate() {
        let rest = 2 * (comparisons.len() - number - 1) + change.len();
        let skip = i16::try_from(rest).expect("a program is two dozen instructions");
        program.push(instruction(0x61, 2, 6, *offset, 0));
        // BPF_JMP32 | BPF_JNE | BPF_K
        program.push(instruction(0x56, 2, 0, skip, *word));
    }
    program.extend(change);
    // In any case the system call goes on.
    program.extend([instruction(0xb4, 0, 0, 0, 1), EXIT]);
    program
}

/// The words of the context that hold the known address.
fn address_words(version: Version) -> Vec<(i16, i32)> {
    let v4 = i32::from_ne_bytes(KNOWN.ip().octets());
    match version {
        Version::V4 => vec![(IPV4_OFFSET, v4)],
        Version::MappedV4 => {
            let prefix = i32::from_ne_bytes([0, 0, 0xff, 0xff]);
            (IPV6_OFFSET..).step_by(4).zip([0, 0, prefix, v4]).collect()
        }
    }
}

fn in_network_order(port: u16) -> i32 {
    i32::from(port.to_be())
}

fn low(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: u64 = 0x1_8000_0002;
    const PORT: u16 = 40_000;

    /// Runs a program as the kernel would; gives the port that the context then has.
    fn port_after(program: &[u64], mut context: [u32; 8], cookie: u64) -> u16 {
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let word = program[at];
            let [opcode, pair, ..] = word.to_le_bytes();
            let (target, source) = (usize::from(pair & 0xf), usize::from(pair >> 4));
            let offset = usize::try_from(word >> 16 & 0xffff).unwrap();
            let constant = word >> 32;
            at += 1;
            match opcode {
                0xbf => registers[target] = registers[source],
                0xb4 => registers[target] = constant,
                0x61 => registers[target] = context[offset / 4].into(),
                0x63 => context[offset / 4] = u32::try_from(registers[source]).unwrap(),
                0x18 => {
                    registers[target] = constant | program[at] >> 32 << 32;
                    at += 1;
                }
                0x85 => registers[0] = cookie,
                0x56 if registers[target] != constant => at += offset,
                0x5d if registers[target] != registers[source] => at += offset,
                0x56 | 0x5d => {}
                0x95 => {
                    assert_eq!(registers[0], 1, "the call goes on");
                    return u16::from_be(u16::try_from(context[6]).unwrap());
                }
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    fn context(version: Version, address: [u8; 4], port: u16) -> [u32; 8] {
        let address = u32::from_ne_bytes(address);
        let mut context = match version {
            Version::V4 => [0, address, 0, 0, 0, 0, 0, 0],
            Version::MappedV4 => [0, 0, 0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), address, 0, 0],
        };
        context[6] = port.to_be().into();
        context
    }

    #[test]
    fn only_the_known_address_of_that_namespace_leads_elsewhere() {
        for version in [Version::V4, Version::MappedV4] {
            let there = program(Way::There, version, COOKIE, PORT);
            let after = |address, port, cookie| port_after(&there, context(version, address, port), cookie);
            assert_eq!(after([127, 0, 0, 11], 53, COOKIE), PORT);
            assert_eq!(after([127, 0, 0, 11], 53, COOKIE + 1), 53, "of another namespace");
            assert_eq!(after([127, 0, 0, 11], 53, COOKIE & 0xffff_ffff), 53);
            assert_eq!(after([127, 0, 0, 11], 54, COOKIE), 54);
            assert_eq!(after([127, 0, 0, 12], 53, COOKIE), 53);
            let back = program(Way::Back, version, COOKIE, PORT);
            assert_eq!(port_after(&back, context(version, [127, 0, 0, 11], PORT), COOKIE), 53);
            assert_eq!(port_after(&back, context(version, [127, 0, 0, 1], PORT), COOKIE), PORT);
        }
    }
}
