//! One entry's header: a ustar block (POSIX.1-2001, pax, section "ustar Interchange Format"), and before it a pax header
//! for whatever does not fit into it.

use std::io::Write;

pub(super) const BLOCK_BYTES: usize = 512;

const NAME_BYTES: usize = 100;
/// Fields of eight bytes hold seven octal digits, those of twelve hold eleven.
const MAX_SHORT_NUMBER: u64 = 0o777_7777;
const MAX_LONG_NUMBER: u64 = 0o777_7777_7777;

/// What an entry is; names of others are as they lie on the disk, in whatever encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    File,
    /// Another name of an entry that came before.
    HardLink(&'a [u8]),
    SymbolicLink(&'a [u8]),
    CharacterDevice(Device),
    BlockDevice(Device),
    Directory,
    Fifo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// Everything about an entry but its content.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Relative to the archive's root.
    pub(super) path: &'a [u8],
    pub(super) kind: Kind<'a>,
    /// Permission bits, with set-user-ID, set-group-ID and sticky.
    pub(super) mode: u32,
    pub(super) user_id: u32,
    pub(super) group_id: u32,
    /// Of the content that follows.
    pub(super) size_bytes: u64,
    pub(super) modified: Time,
    pub(super) attributes: &'a [Attribute],
}

/// Since 1970; the nanoseconds count forward, also before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl Kind<'_> {
    fn type_flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink(_) => b'1',
            Self::SymbolicLink(_) => b'2',
            Self::CharacterDevice(_) => b'3',
            Self::BlockDevice(_) => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }

    fn target(&self) -> &[u8] {
        match self {
            Self::HardLink(target) | Self::SymbolicLink(target) => target,
            _ => b"",
        }
    }

    fn device(self) -> Device {
        match self {
            Self::CharacterDevice(device) | Self::BlockDevice(device) => device,
            _ => Device { major: 0, minor: 0 },
        }
    }
}

impl Entry<'_> {
    /// Whole blocks, behind which the content follows.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut path = self.path.to_vec();
        if self.kind == Kind::Directory {
            path.push(b'/');
        }
        let records = self.records(&path);
        let mut header = Vec::new();
        if !records.is_empty() {
            let length = records.len() as u64;
            header.extend(
                Block { name: b"PaxHeader", type_flag: b'x', size: length, ..Block::default() }.bytes(),
            );
            header.extend(&records);
            header.resize(header.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        let Device { major, minor } = self.kind.device();
        let block = Block {
            name: &path,
            mode: self.mode,
            user_id: self.user_id,
            group_id: self.group_id,
            size: self.size_bytes,
            seconds: u64::try_from(self.modified.seconds).unwrap_or(0),
            type_flag: self.kind.type_flag(),
            target: self.kind.target(),
            major,
            minor,
        };
        header.extend(block.bytes());
        header
    }

    /// What the block cannot hold.
    fn records(&self, path: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        if path.len() > NAME_BYTES {
            push_record(&mut records, b"path", path);
        }
        if self.kind.target().len() > NAME_BYTES {
            push_record(&mut records, b"linkpath", self.kind.target());
        }
        let numbers: [(&[u8], u64, u64); 3] = [
            (b"uid", self.user_id.into(), MAX_SHORT_NUMBER),
            (b"gid", self.group_id.into(), MAX_SHORT_NUMBER),
            (b"size", self.size_bytes, MAX_LONG_NUMBER),
        ];
        for (key, number, highest) in numbers {
            if number > highest {
                push_record(&mut records, key, number.to_string().as_bytes());
            }
        }
        if !self.modified.fits_into_a_block() {
            push_record(&mut records, b"mtime", self.modified.decimal().as_bytes());
        }
        for attribute in self.attributes {
            push_record(&mut records, &attribute.keyword(), &attribute.value);
        }
        records
    }
}

impl Time {
    fn fits_into_a_block(self) -> bool {
        self.nanoseconds == 0 && u64::try_from(self.seconds).is_ok_and(|seconds| seconds <= MAX_LONG_NUMBER)
    }

    /// Before 1970 it is the whole that is negative, so the fraction counts the other way.
    fn decimal(self) -> String {
        match self.nanoseconds {
            0 => self.seconds.to_string(),
            nanoseconds if self.seconds < 0 => {
                let (whole, rest) =
                    ((self.seconds + 1).unsigned_abs(), 1_000_000_000_u32.saturating_sub(nanoseconds));
                format!("-{whole}.{rest:09}")
            }
            nanoseconds => format!("{}.{nanoseconds:09}", self.seconds),
        }
    }
}

impl Attribute {
    /// An equals sign would end the key: it is written as GNU tar writes it.
    fn keyword(&self) -> Vec<u8> {
        let mut keyword = b"SCHILY.xattr.".to_vec();
        for byte in &self.name {
            match byte {
                b'=' => keyword.extend(b"%3D"),
                b'%' => keyword.extend(b"%25"),
                byte => keyword.push(*byte),
            }
        }
        keyword
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
pub(super) fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    write!(records, "{length} ").expect("a Vec grows as needed");
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The fields of a ustar block. What does not fit is cut: a pax header before it says the whole.
#[derive(Default)]
struct Block<'a> {
    name: &'a [u8],
    mode: u32,
    user_id: u32,
    group_id: u32,
    size: u64,
    seconds: u64,
    type_flag: u8,
    target: &'a [u8],
    major: u32,
    minor: u32,
}

impl Block<'_> {
    fn bytes(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        put_name(&mut block[0..100], self.name);
        put_number(&mut block[100..108], self.mode.into());
        put_number(&mut block[108..116], self.user_id.into());
        put_number(&mut block[116..124], self.group_id.into());
        put_number(&mut block[124..136], self.size);
        put_number(&mut block[136..148], self.seconds);
        block[156] = self.type_flag;
        put_name(&mut block[157..257], self.target);
        block[257..265].copy_from_slice(b"ustar\x0000");
        put_number(&mut block[329..337], self.major.into());
        put_number(&mut block[337..345], self.minor.into());
        // The checksum counts its own field as blanks, and ends with NUL and blank.
        block[148..156].fill(b' ');
        let sum = block.iter().map(|byte| u64::from(*byte)).sum();
        put_number(&mut block[148..155], sum);
        block
    }
}

fn put_name(field: &mut [u8], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}

/// Octal digits and a NUL; 0 where they would not fit.
fn put_number(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let text = format!("{number:0digits$o}");
    let text = if text.len() > digits { "0".repeat(digits) } else { text };
    field[..digits].copy_from_slice(text.as_bytes());
}
