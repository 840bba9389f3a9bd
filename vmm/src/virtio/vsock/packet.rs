//! The header of a vsock packet and its bytes (virtio 1.2, section 5.10.6).

/// `struct virtio_vsock_hdr`.
pub(super) const HEADER_BYTES: usize = 44;
/// The only socket type that is offered.
pub(super) const STREAM: u16 = 1;
/// Flags of [`Operation::Shutdown`]: the sender of the packet will not receive, will not send any more.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
pub(super) const SHUTDOWN_SEND: u32 = 2;

/// A packet's header; what follows it is `length` bytes of data, for [`Operation::ReadWrite`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source_cid: u64,
    pub(super) destination_cid: u64,
    pub(super) source_port: u32,
    pub(super) destination_port: u32,
    pub(super) length: u32,
    pub(super) socket_type: u16,
    pub(super) operation: Operation,
    pub(super) flags: u32,
    /// The sender's receive buffer, in bytes, and how many it has taken out of it since the connection began.
    pub(super) buffer_bytes: u32,
    pub(super) forwarded_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Response,
    Reset,
    Shutdown,
    ReadWrite,
    CreditUpdate,
    CreditRequest,
    /// None of the specification's.
    Unknown(u16),
}

impl From<u16> for Operation {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::ReadWrite,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }
}

impl From<Operation> for u16 {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Request => 1,
            Operation::Response => 2,
            Operation::Reset => 3,
            Operation::Shutdown => 4,
            Operation::ReadWrite => 5,
            Operation::CreditUpdate => 6,
            Operation::CreditRequest => 7,
            Operation::Unknown(other) => other,
        }
    }
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        Self {
            source_cid: u64::from_le_bytes(field(bytes, 0)),
            destination_cid: u64::from_le_bytes(field(bytes, 8)),
            source_port: u32::from_le_bytes(field(bytes, 16)),
            destination_port: u32::from_le_bytes(field(bytes, 20)),
            length: u32::from_le_bytes(field(bytes, 24)),
            socket_type: u16::from_le_bytes(field(bytes, 28)),
            operation: u16::from_le_bytes(field(bytes, 30)).into(),
            flags: u32::from_le_bytes(field(bytes, 32)),
            buffer_bytes: u32::from_le_bytes(field(bytes, 36)),
            forwarded_bytes: u32::from_le_bytes(field(bytes, 40)),
        }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.source_cid.to_le_bytes());
        put(8, &self.destination_cid.to_le_bytes());
        put(16, &self.source_port.to_le_bytes());
        put(20, &self.destination_port.to_le_bytes());
        put(24, &self.length.to_le_bytes());
        put(28, &self.socket_type.to_le_bytes());
        put(30, &u16::from(self.operation).to_le_bytes());
        put(32, &self.flags.to_le_bytes());
        put(36, &self.buffer_bytes.to_le_bytes());
        put(40, &self.forwarded_bytes.to_le_bytes());
        bytes
    }

    /// The reset that answers this packet when nobody is there to take it.
    pub(super) fn refusal(&self) -> Self {
        Self {
            source_cid: self.destination_cid,
            destination_cid: self.source_cid,
            source_port: self.destination_port,
            destination_port: self.source_port,
            length: 0,
            socket_type: self.socket_type,
            operation: Operation::Reset,
            flags: 0,
            buffer_bytes: 0,
            forwarded_bytes: 0,
        }
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the header's fields lie inside it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_bytes() {
        let bytes: [u8; HEADER_BYTES] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let header = Header::decode(&bytes);
        assert_eq!(header.encode(), bytes);
        assert_eq!(header.source_port, 0x1312_1110);
        assert_eq!(header.operation, Operation::Unknown(0x1f1e));
    }

    #[test]
    fn operations_have_the_specifications_numbers() {
        for number in 0..=u16::MAX {
            assert_eq!(u16::from(Operation::from(number)), number);
        }
        assert_eq!(Operation::from(5), Operation::ReadWrite);
    }
}
