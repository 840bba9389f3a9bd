//! Writing EROFS metadata: a tree becomes a read-only file system whose files' bytes lie elsewhere.
//!
//! ```text
//! block 0              inode area                    directory area     data (not written here)
//! | 1024 zeros | superblock | root inode, inodes ... | directory blocks | layer 0 | layer 1 | ...
//! ```
//!
//! Uncompressed, 4 KiB blocks, one device. A file is one run of blocks beyond the metadata (FLAT_PLAIN); a short rest
//! of it, short directories and symbolic links lie behind their inode (FLAT_INLINE). Inodes are of the extended form, which alone
//! keeps nanoseconds. The same tree always gives the same bytes. The format is the kernel's, `fs/erofs/erofs_fs.h`;
//! nothing newer than Linux 5.15 is used, so erofs-utils 1.5 can check it.

mod crc32c;
mod directory;
mod format;
mod layout;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod reader;
mod xattr;

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::tree::{Inode, InodeKind, InodeNumber, ROOT, TailPlace, Tree};
use directory::Dirent;
use format::{BLOCK_BYTES, InodeRecord, Superblock};
use layout::{Body, Layout};

/// Why a tree cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the file system would have more than 2^32 blocks of 4 KiB")]
    TooLarge,
    #[error("writing the file system")]
    Write(#[from] io::Error),
    /// Of the layer with this number.
    #[error("reading the tail of a file")]
    Tail { layer: usize, source: io::Error },
}

/// Fills the buffer with a file's tail, which lies elsewhere.
pub(crate) type ReadTail<'a> = &'a dyn Fn(TailPlace, &mut [u8]) -> io::Result<()>;

/// Writes the metadata of `tree`, whose files lie in `data_blocks` blocks that follow it on the disk.
///
/// Returns how many bytes the metadata has: a multiple of 4 KiB.
pub(crate) fn write(
    tree: &Tree,
    uuid: [u8; 16],
    data_blocks: u64,
    read_tail: ReadTail<'_>,
    target: &mut (impl Read + Write + Seek),
) -> Result<u64, WriteError> {
    let layout = Layout::new(tree);
    let blocks = u32::try_from(layout.metadata_blocks + data_blocks).map_err(|_| WriteError::TooLarge)?;
    let mut writer = Writer { tree, layout: &layout, read_tail, target, position_bytes: 0 };
    let superblock = Superblock { root: layout.nid(ROOT), inodes: layout.order.len() as u64, blocks, uuid };
    writer.pad_to(format::SUPERBLOCK_OFFSET_BYTES)?;
    writer.put(&superblock.encode())?;
    for number in &layout.order {
        writer.put_inode(*number)?;
    }
    for number in &layout.order {
        writer.put_own_blocks(*number)?;
    }
    writer.pad_to(layout.metadata_blocks * BLOCK_BYTES)?;
    put_checksum(target)?;
    Ok(layout.metadata_blocks * BLOCK_BYTES)
}

struct Writer<'a, T> {
    tree: &'a Tree,
    layout: &'a Layout,
    read_tail: ReadTail<'a>,
    target: &'a mut T,
    position_bytes: u64,
}

impl<'a, T: Write> Writer<'a, T> {
    /// The inode, its extended attributes, and what of its body lies behind it.
    fn put_inode(&mut self, number: InodeNumber) -> Result<(), WriteError> {
        let (inode, place) = (self.tree.inode(number), self.layout.place(number));
        self.pad_to(place.offset_bytes)?;
        let xattrs = xattr::encode(&inode.attributes.xattrs);
        let record = InodeRecord {
            inode,
            body: &place.body,
            sequence: place.sequence,
            links: self.link_count(inode),
            xattr_bytes: xattrs.len(),
            pointer: self.pointer(inode, &place.body)?,
        };
        self.put(&record.encode())?;
        self.put(&xattrs)?;
        match (&inode.kind, &place.body) {
            (InodeKind::Symlink { target }, Body::Inline { .. }) => self.put(target),
            (InodeKind::File { tail: Some(place), .. }, Body::Tail { bytes }) => {
                self.put_tail(*place, *bytes)
            }
            (InodeKind::Directory(_), Body::Inline { full_blocks, .. }) => {
                let dirents = self.dirents(number);
                let blocks = directory::pack(&dirents);
                blocks
                    .get(*full_blocks..)
                    .unwrap_or_default()
                    .iter()
                    .try_for_each(|block| self.put(&block.encode()))
            }
            _ => Ok(()),
        }
    }

    fn put_tail(&mut self, place: TailPlace, bytes: u64) -> Result<(), WriteError> {
        let mut tail = vec![0; usize::try_from(bytes).expect("less than a block")];
        (self.read_tail)(place, &mut tail)
            .map_err(|source| WriteError::Tail { layer: place.layer, source })?;
        self.put(&tail)
    }

    /// What of a body lies in blocks of its own.
    fn put_own_blocks(&mut self, number: InodeNumber) -> Result<(), WriteError> {
        let body = &self.layout.place(number).body;
        if body.own_blocks() == 0 {
            return Ok(());
        }
        self.pad_to(body.first_own_block() * BLOCK_BYTES)?;
        match &self.tree.inode(number).kind {
            InodeKind::Symlink { target } => self.put(target),
            InodeKind::Directory(_) => {
                let dirents = self.dirents(number);
                for block in directory::pack(&dirents).iter().take(body.own_blocks()) {
                    self.pad_to(self.position_bytes.next_multiple_of(BLOCK_BYTES))?;
                    self.put(&block.encode())?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A directory's entries, `.` and `..` among them, in the byte order of names that lookup relies on.
    fn dirents(&self, number: InodeNumber) -> Vec<Dirent<'a>> {
        let (tree, layout) = (self.tree, self.layout);
        let dirent = |name, number| Dirent {
            name,
            nid: layout.nid(number),
            file_type: format::file_type(&tree.inode(number).kind),
        };
        let children = tree.children(number).into_iter().flatten();
        let mut dirents: Vec<_> = children.map(|(name, child)| dirent(name.as_slice(), *child)).collect();
        dirents.push(dirent(b".", number));
        dirents.push(dirent(b"..", self.layout.place(number).parent));
        dirents.sort_unstable_by_key(|dirent| dirent.name);
        dirents
    }

    /// A directory is named by its parent, by its own `.` and by each child's `..`.
    fn link_count(&self, inode: &Inode) -> u32 {
        let InodeKind::Directory(children) = &inode.kind else { return inode.names };
        let directories = children.values().filter(|child| self.tree.children(**child).is_some()).count();
        u32::try_from(directories).unwrap_or(u32::MAX).saturating_add(2)
    }

    /// The inode's one pointer field: first block or device number.
    fn pointer(&self, inode: &Inode, body: &Body) -> Result<u32, WriteError> {
        let block = match &inode.kind {
            InodeKind::File { size_bytes: 0, .. } | InodeKind::Fifo => return Ok(0),
            InodeKind::File { first_block, .. } => self.layout.metadata_blocks + first_block,
            InodeKind::CharacterDevice { major, minor } | InodeKind::BlockDevice { major, minor } => {
                return Ok(format::device_number(*major, *minor));
            }
            InodeKind::Directory(_) | InodeKind::Symlink { .. } => body.first_own_block(),
        };
        u32::try_from(block).map_err(|_| WriteError::TooLarge)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.target.write_all(bytes)?;
        self.position_bytes += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, offset_bytes: u64) -> Result<(), WriteError> {
        let gap = offset_bytes.checked_sub(self.position_bytes).expect("the layout never goes backwards");
        io::copy(&mut io::repeat(0).take(gap), self.target)?;
        self.position_bytes = offset_bytes;
        Ok(())
    }
}

/// The superblock's checksum covers the rest of its block, inodes included: it comes last.
fn put_checksum(target: &mut (impl Read + Write + Seek)) -> Result<(), WriteError> {
    let mut covered = vec![0; Superblock::CHECKED_BYTES];
    target.seek(SeekFrom::Start(format::SUPERBLOCK_OFFSET_BYTES))?;
    target.read_exact(&mut covered)?;
    let checksum = crc32c::checksum(&covered);
    target.seek(SeekFrom::Start(format::SUPERBLOCK_OFFSET_BYTES + Superblock::CHECKSUM_OFFSET_BYTES))?;
    target.write_all(&checksum.to_le_bytes())?;
    target.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_directory_of_a_hundred_thousand_entries_is_whole() {
        let mut tree = Tree::new();
        for number in 0..100_000_u32 {
            let kind = InodeKind::File { size_bytes: 0, first_block: 0, tail: None };
            tree.insert(ROOT, format!("{number:x}").as_bytes(), Inode::new(kind, Default::default()));
        }
        let mut target = Cursor::new(Vec::new());
        write(&tree, [1; 16], 0, &|_, _| Ok(()), &mut target).unwrap();
        let nodes = reader::read(target.get_ref(), 0).unwrap();
        assert_eq!(nodes.len(), 100_001);
        assert!(nodes.contains_key(&b"beef"[..]));
    }
}
