//! Elements of sets of the packet filter, added and removed over netlink, all of a transaction or none.
//!
//! Speaks just the part of nf_tables' protocol (`linux/netfilter/nf_tables.h`) that this takes: two messages between the
//! marks of a batch. The sets themselves are made by the ruleset.

use std::io;
use std::net::IpAddr;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::io::Errno;

/// `linux/netlink.h` and `linux/netfilter/nfnetlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;
/// The header of a batch: no family, version 0, and whose batch it is in network order.
const BATCH: [u8; 4] = [0, 0, NFTABLES.to_be_bytes()[0], NFTABLES.to_be_bytes()[1]];
/// `linux/netfilter/nf_tables.h`.
const NEW_ELEMENT: u16 = (NFTABLES << 8) | 12;
const DELETE_ELEMENT: u16 = (NFTABLES << 8) | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;
const INTERVAL_END: u32 = 1;
/// An attribute that holds attributes.
const NESTED: u16 = 0x8000;

const HEADER_BYTES: usize = 16;
const ALIGNMENT_BYTES: usize = 4;
const NAME_BYTES: usize = 16;

/// Which of the two tables a set is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Inet = 1,
    Bridge = 7,
}

/// A value of one or several fields, each filled up to four bytes, as concatenations are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value(Vec<u8>);

impl Value {
    pub(super) fn name(self, name: &str) -> Self {
        let mut field = [0; NAME_BYTES];
        let bytes = name.as_bytes();
        let length = bytes.len().min(NAME_BYTES - 1);
        field[..length].copy_from_slice(&bytes[..length]);
        self.field(&field)
    }

    pub(super) fn mac(self, address: [u8; 6]) -> Self {
        self.field(&address)
    }

    pub(super) fn ip(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.field(&address.octets()),
            IpAddr::V6(address) => self.field(&address.octets()),
        }
    }

    /// A protocol of IP.
    pub(super) fn protocol(self, number: u8) -> Self {
        self.field(&[number])
    }

    pub(super) fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT_BYTES), 0);
        self
    }

    /// A port alone is not filled up.
    pub(super) fn only_port(port: u16) -> Self {
        Self(port.to_be_bytes().to_vec())
    }
}

/// An element and the set it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) family: Family,
    pub(super) set: &'static str,
    pub(super) key: Value,
    pub(super) end: End,
    /// What a map leads to.
    pub(super) data: Option<Value>,
}

/// How far an element of a set of intervals reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is one value.
    None,
    /// Of a concatenation: its last value.
    Inclusive(Value),
    /// Of single values: the element ends the one that begins before it, and is no part of it.
    IsOne,
}

/// What is to become of the elements of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

/// Changes all of them at once. Blocks.
///
/// # Errors
/// The kernel's first refusal; nothing has changed then.
pub(super) fn change(table: &str, change: Change, elements: &[Element]) -> io::Result<()> {
    let mut batch = Vec::new();
    message(&mut batch, BATCH_BEGIN, NLM_F_REQUEST, 0, BATCH, &[]);
    for (number, element) in (1..).zip(elements) {
        let (kind, flags) = match change {
            Change::Add => (NEW_ELEMENT, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE),
            Change::Remove => (DELETE_ELEMENT, NLM_F_REQUEST | NLM_F_ACK),
        };
        let generic = [element.family as u8, 0, 0, 0];
        message(&mut batch, kind, flags, number, generic, &element.attributes(table));
    }
    message(&mut batch, BATCH_END, NLM_F_REQUEST, 0, BATCH, &[]);
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(&batch, &SocketAddr::new(0, 0), 0)?;
    await_answers(&socket, elements.len())
}

/// Each element is answered by itself; one refusal is the end of all.
fn await_answers(socket: &Socket, mut outstanding: usize) -> io::Result<()> {
    while outstanding > 0 {
        let (datagram, _kernel) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((kind, body, next)) = first_message(rest) {
            if kind == NLMSG_ERROR {
                let code = body
                    .first_chunk()
                    .map_or(Errno::BADMSG.raw_os_error().wrapping_neg(), |code| i32::from_ne_bytes(*code));
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                outstanding = outstanding.saturating_sub(1);
            }
            rest = next;
        }
    }
    Ok(())
}

/// Kind and body of the first message, and what follows it.
fn first_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..6)?.first_chunk()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    let next = bytes.get(length.next_multiple_of(ALIGNMENT_BYTES)..).unwrap_or_default();
    Some((kind, body, next))
}

/// A netlink message; `generic` is the header that all of netfilter's have (`struct nfgenmsg`).
fn message(batch: &mut Vec<u8>, kind: u16, flags: u16, number: u32, generic: [u8; 4], attributes: &[u8]) {
    let length = HEADER_BYTES + generic.len() + attributes.len();
    let length = u32::try_from(length).expect("an element is small");
    batch.extend(length.to_ne_bytes());
    batch.extend(kind.to_ne_bytes());
    batch.extend(flags.to_ne_bytes());
    batch.extend(number.to_ne_bytes());
    batch.extend(0_u32.to_ne_bytes());
    batch.extend(generic);
    batch.extend(attributes);
}

impl Element {
    fn attributes(&self, table: &str) -> Vec<u8> {
        let mut element = nested(ELEMENT_KEY, &attribute(DATA_VALUE, &self.key.0));
        match &self.end {
            End::None => {}
            End::Inclusive(last) => {
                element.extend(nested(ELEMENT_KEY_END, &attribute(DATA_VALUE, &last.0)));
            }
            End::IsOne => element.extend(attribute(ELEMENT_FLAGS, &INTERVAL_END.to_be_bytes())),
        }
        if let Some(data) = &self.data {
            element.extend(nested(ELEMENT_DATA, &attribute(DATA_VALUE, &data.0)));
        }
        let mut attributes = attribute(LIST_TABLE, &zero_ended(table));
        attributes.extend(attribute(LIST_SET, &zero_ended(self.set)));
        attributes.extend(nested(LIST_ELEMENTS, &nested(LIST_ELEMENT, &element)));
        attributes
    }
}

fn zero_ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, attributes)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("an element is small");
    let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend_from_slice(value);
    attribute.resize(attribute.len().next_multiple_of(ALIGNMENT_BYTES), 0);
    attribute
}
