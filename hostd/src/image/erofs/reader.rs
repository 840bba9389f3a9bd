//! Reading a file system back, and complaining about all that is not as the format wants it: for tests and fuzzers.
//!
//! Written from the format's description, not from the writer beside it; no product has it.

use std::collections::{BTreeMap, HashMap};

use super::crc32c;

const BLOCK: usize = 4096;
const S_IFMT: u16 = 0o170_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;
const MAX_DEPTH: usize = 5000;

/// What an inode says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) nid: u64,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: (i64, u32),
    pub(crate) links: u32,
    pub(crate) size_bytes: u64,
    /// First block, or device number.
    pub(crate) pointer: u32,
    /// What lies behind the inode.
    pub(crate) inline: Option<Vec<u8>>,
    pub(crate) xattrs: Vec<Xattr>,
}

/// Prefix number, rest of the name, value.
pub(crate) type Xattr = (u8, Vec<u8>, Vec<u8>);

/// Paths, the root's being empty, and what they lead to.
pub(crate) type Nodes = BTreeMap<Vec<u8>, Node>;

struct Reader<'a> {
    metadata: &'a [u8],
    /// Of the whole disk.
    blocks: u64,
    links_seen: HashMap<u64, u32>,
    nodes: Nodes,
}

/// Reads the file system whose metadata this is, in front of `data_blocks` blocks.
pub(crate) fn read(metadata: &[u8], data_blocks: u64) -> Result<Nodes, String> {
    if metadata.is_empty() || !metadata.len().is_multiple_of(BLOCK) {
        return Err("metadata are whole blocks".to_owned());
    }
    let superblock = &metadata[1024..1024 + 128];
    let mut covered = metadata[1024..BLOCK].to_vec();
    covered[4..8].fill(0);
    check(u32_at(superblock, 0) == 0xE0F5_E1E2, "magic")?;
    check(u32_at(superblock, 4) == crc32c::checksum(&covered), "the superblock's checksum")?;
    check(superblock[12] == 12 && superblock[13] == 0, "blocks of 4 KiB, a plain superblock")?;
    check(u32_at(superblock, 40) == 0 && u32_at(superblock, 80) == 0, "inodes from 0, no features")?;
    let blocks = (metadata.len() / BLOCK) as u64 + data_blocks;
    check(u64::from(u32_at(superblock, 36)) == blocks, "the number of blocks")?;
    let mut reader = Reader { metadata, blocks, links_seen: HashMap::new(), nodes: Nodes::new() };
    let root = u64::from(u16_at(superblock, 14));
    reader.walk(root)?;
    check(u64_at(superblock, 16) == reader.links_seen.len() as u64, "the number of inodes")?;
    for (path, node) in &reader.nodes {
        let expected = if node.mode & S_IFMT == S_IFDIR { node.links } else { reader.links_seen[&node.nid] };
        check(node.links == expected, &format!("{:?}: its number of links", String::from_utf8_lossy(path)))?;
    }
    Ok(reader.nodes)
}

impl Reader<'_> {
    /// A directory at a time, so that depth costs no stack.
    fn walk(&mut self, root: u64) -> Result<(), String> {
        let mut pending = vec![(Vec::new(), root, root)];
        self.links_seen.insert(root, 1);
        while let Some((path, nid, parent)) = pending.pop() {
            let node = self.inode(nid)?;
            check(node.mode & S_IFMT == S_IFDIR, "only directories are walked into")?;
            let mut subdirectories = 0;
            for (name, child, file_type) in self.directory(&node, parent)? {
                let found = self.inode(child)?;
                check(file_type == expected_type(found.mode), "a directory's entry has its inode's type")?;
                let seen = self.links_seen.entry(child).or_default();
                *seen += 1;
                let path = if path.is_empty() { name } else { [&path[..], b"/", &name].concat() };
                if found.mode & S_IFMT == S_IFDIR {
                    check(*seen == 1, "a directory has one name")?;
                    check(path.len() < MAX_DEPTH * 256, "depth")?;
                    subdirectories += 1;
                    pending.push((path, child, nid));
                } else {
                    self.nodes.insert(path, found);
                }
            }
            check(node.links == subdirectories + 2, "a directory's number of links")?;
            self.nodes.insert(path, node);
        }
        Ok(())
    }

    fn inode(&self, nid: u64) -> Result<Node, String> {
        let at = usize::try_from(nid * 32).map_err(|_| "nid")?;
        let bytes = self.metadata.get(at..at + 64).ok_or("an inode beyond the metadata")?;
        check(at % BLOCK + 64 <= BLOCK || at % 32 == 0, "an inode's place")?;
        let (version, layout) = (u16_at(bytes, 0) & 1, u16_at(bytes, 0) >> 1);
        check(version == 1 && matches!(layout, 0 | 2), "an extended inode, plain or inline")?;
        let xattr_words = usize::from(u16_at(bytes, 2));
        let xattr_bytes = if xattr_words == 0 { 0 } else { 12 + (xattr_words - 1) * 4 };
        let xattrs = self.metadata.get(at + 64..at + 64 + xattr_bytes).ok_or("xattrs beyond the metadata")?;
        let mode = u16_at(bytes, 4);
        let mut node = Node {
            nid,
            mode,
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            modified: (u64_at(bytes, 32).cast_signed(), u32_at(bytes, 40)),
            links: u32_at(bytes, 44),
            size_bytes: u64_at(bytes, 8),
            pointer: u32_at(bytes, 16),
            inline: None,
            xattrs: split_xattrs(xattrs)?,
        };
        let has_blocks = matches!(mode & S_IFMT, S_IFDIR | S_IFREG | S_IFLNK);
        let mut own_blocks = if has_blocks { node.size_bytes.div_ceil(BLOCK as u64) } else { 0 };
        if layout == 2 {
            let length = usize::try_from(node.size_bytes % BLOCK as u64).expect("less than a block");
            let tail = at + 64 + xattr_bytes;
            check(length > 0 && tail / BLOCK == (tail + length - 1) / BLOCK, "a tail within a block")?;
            node.inline = Some(self.metadata.get(tail..tail + length).ok_or("a tail beyond")?.to_vec());
            own_blocks -= 1;
        }
        let end = u64::from(node.pointer) + own_blocks;
        check(own_blocks == 0 || (node.pointer > 0 && end <= self.blocks), "blocks beyond the disk")?;
        Ok(node)
    }

    /// Names, inodes and types, without `.` and `..`.
    fn directory(&self, node: &Node, parent: u64) -> Result<Vec<(Vec<u8>, u64, u8)>, String> {
        let content = self.content(node)?;
        let mut all: Vec<(Vec<u8>, u64, u8)> = Vec::new();
        for block in content.chunks(BLOCK) {
            let first = block.get(8..10).map(|bytes| usize::from(u16_at(bytes, 0))).ok_or("a short block")?;
            check(first >= 12 && first % 12 == 0 && first <= block.len(), "a directory block's table")?;
            let offset = |entry: usize| usize::from(u16_at(block, entry * 12 + 8));
            for entry in 0..first / 12 {
                let last = entry + 1 == first / 12;
                let end = if last { block.len() } else { offset(entry + 1) };
                let name = block.get(offset(entry)..end).ok_or("a name beyond its block")?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
                check(!name.is_empty() && name.len() <= 255 && !name.contains(&b'/'), "a name")?;
                check(all.last().is_none_or(|(before, ..)| *before < name), "names ascend")?;
                all.push((name, u64_at(block, entry * 12), block[entry * 12 + 10]));
            }
        }
        let place = |name: &[u8]| all.iter().find(|(found, ..)| found == name).map(|(_, nid, _)| *nid);
        check(place(b".") == Some(node.nid) && place(b"..") == Some(parent), "'.' and '..'")?;
        all.retain(|(name, ..)| name != b"." && name != b"..");
        Ok(all)
    }

    /// Of a directory or a symbolic link: all of it is in the metadata.
    fn content(&self, node: &Node) -> Result<Vec<u8>, String> {
        let size = usize::try_from(node.size_bytes).map_err(|_| "size")?;
        let inline = node.inline.clone().unwrap_or_default();
        let start = node.pointer as usize * BLOCK;
        let own =
            self.metadata.get(start..start + size - inline.len()).ok_or("content beyond the metadata")?;
        Ok([own, &inline].concat())
    }
}

fn split_xattrs(bytes: &[u8]) -> Result<Vec<Xattr>, String> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    let mut xattrs = Vec::new();
    while !rest.is_empty() {
        let (name, value) = (usize::from(rest[0]), usize::from(u16_at(rest, 2)));
        let used = (4 + name + value).next_multiple_of(4);
        let entry = rest.get(..used).ok_or("an extended attribute beyond its inode's")?;
        xattrs.push((rest[1], entry[4..4 + name].to_vec(), entry[4 + name..4 + name + value].to_vec()));
        rest = &rest[used..];
    }
    Ok(xattrs)
}

fn expected_type(mode: u16) -> u8 {
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        0o020_000 => 3,
        0o060_000 => 4,
        0o010_000 => 5,
        S_IFLNK => 7,
        _ => 0,
    }
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
