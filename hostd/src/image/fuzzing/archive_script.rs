//! Tar archives from a fuzzer's bytes: members that are sound but for what the bytes want wrong in them.
//!
//! A fuzzer finds no checksum by itself; here it says in a few bytes what a header has, and the checksum comes of
//! itself, unless it wants a wrong one.

/// A fuzzer's bytes, taken from the front: what is missing at the end reads as zeros.
pub(super) struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    pub(super) fn new(bytes: &'i [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes, as many as are there, at most `length`.
    pub(super) fn bytes(&mut self, length: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// A run of bytes whose length is its first byte.
    pub(super) fn short_bytes(&mut self) -> &'i [u8] {
        let length = self.u8();
        self.bytes(length.into())
    }
}

const BLOCK: usize = 512;
const COMPONENTS: [&[u8]; 12] =
    [b"a", b"b", b"c", b"dir", b"..", b".", b"", b".wh.a", b".wh..wh..opq", b".wh.b", b"\xff", b".wh.."];
const TYPES: &[u8] = b"0000555122346\0LKxgSVA7X";
const RECORDS: [&str; 16] = [
    "path=a",
    "path=a/b",
    "linkpath=a",
    "size=3",
    "mtime=-1.5",
    "uid=4000000000",
    "SCHILY.xattr.user.a=b",
    "SCHILY.xattr.security.capability=0123456789",
    "GNU.sparse.major=1",
    "GNU.sparse.minor=0",
    "GNU.sparse.realsize=10000",
    "GNU.sparse.size=10000",
    "GNU.sparse.map=0,1,5000,2",
    "GNU.sparse.offset=4096",
    "GNU.sparse.numbytes=3",
    "GNU.sparse.name=s",
];

/// Members until `input` says that it is enough or has no more.
pub(super) fn archive(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0 => break,
            1 => bytes.extend_from_slice(input.short_bytes()),
            _ => member(input, &mut bytes),
        }
    }
    bytes
}

fn member(input: &mut Input<'_>, archive: &mut Vec<u8>) {
    let type_flag = TYPES[usize::from(input.u8()) % TYPES.len()];
    let mut header = [0; BLOCK];
    put(&mut header[..100], &path(input));
    put(&mut header[100..108], b"0000755");
    put(&mut header[136..148], b"00000001750");
    header[156] = type_flag;
    put(&mut header[157..257], &path(input));
    let magic: &[u8] = if type_flag == b'S' { b"ustar  \0" } else { b"ustar\0" };
    put(&mut header[257..265], magic);
    let data = match type_flag {
        b'x' | b'g' | b'X' => records(input),
        b'0' | 0 | b'7' => content(input),
        _ => input.short_bytes().to_vec(),
    };
    let size = data.len() as u64;
    put(&mut header[124..136], format!("{size:011o}").as_bytes());
    // Then whatever is to be wrong: a field anywhere.
    for _ in 0..input.u8() % 4 {
        let at = usize::from(input.u16()) % BLOCK;
        let wrong = input.short_bytes();
        let end = BLOCK.min(at + wrong.len());
        header[at..end].copy_from_slice(&wrong[..end - at]);
    }
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut header[148..156], format!("{sum:06o}\0").as_bytes());
    archive.extend_from_slice(&header);
    archive.extend_from_slice(&data);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

fn path(input: &mut Input<'_>) -> Vec<u8> {
    let choice = input.u8();
    if choice == 0xff {
        return input.short_bytes().to_vec();
    }
    let components = (0..choice % 5).map(|_| COMPONENTS[usize::from(input.u8()) % COMPONENTS.len()]);
    components.collect::<Vec<_>>().join(&b'/')
}

/// A few bytes, or many of one kind around the sizes that matter.
fn content(input: &mut Input<'_>) -> Vec<u8> {
    let length = match input.u8() % 4 {
        0 => 0,
        1 => return input.short_bytes().to_vec(),
        2 => usize::from(input.u16()),
        _ => 4096 * usize::from(input.u8() % 4) + usize::from(input.u8()),
    };
    vec![input.u8(); length]
}

fn records(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..input.u8() % 6 {
        let choice = input.u8();
        let record: &[u8] = match RECORDS.get(usize::from(choice)) {
            Some(record) => record.as_bytes(),
            None => input.short_bytes(),
        };
        // The length counts its own digits.
        let rest = record.len() + 2;
        let length = (1..).map(|digits| rest + digits).find(|sum| sum.to_string().len() + rest == *sum);
        bytes.extend_from_slice(format!("{} ", length.expect("one fits")).as_bytes());
        bytes.extend_from_slice(record);
        bytes.push(b'\n');
    }
    bytes
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let length = field.len().min(bytes.len());
    field[..length].copy_from_slice(&bytes[..length]);
}
