//! Directory blocks: each is a table of entries followed by their names, sorted over the whole directory.

use super::format::{BLOCK_BYTES, DIRENT_BYTES, Fields};

/// `struct erofs_dirent` and the name it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dirent<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// As many entries as fit into one block.
pub(super) struct DirectoryBlock<'a>(&'a [Dirent<'a>]);

/// Fills blocks one after the other, as lookup's binary search over blocks expects.
pub(super) fn pack<'a>(dirents: &'a [Dirent<'a>]) -> Vec<DirectoryBlock<'a>> {
    let counts = split(dirents.iter().map(|dirent| dirent.name.len())).map(|block| block.entries);
    let mut rest = dirents;
    counts
        .map(|count| {
            let (block, others) = rest.split_at(count);
            rest = others;
            DirectoryBlock(block)
        })
        .collect()
}

/// How a directory's entries fall into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

/// The blocks for names of these lengths, in order.
pub(super) fn split(name_lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = Filled> {
    let mut lengths = name_lengths.map(|length| (length + DIRENT_BYTES) as u64).peekable();
    std::iter::from_fn(move || {
        let mut block = Filled { entries: 0, bytes: 0 };
        while let Some(bytes) = lengths.next_if(|bytes| block.bytes + bytes <= BLOCK_BYTES) {
            block = Filled { entries: block.entries + 1, bytes: block.bytes + bytes };
        }
        (block.entries > 0).then_some(block)
    })
}

impl DirectoryBlock<'_> {
    /// The table, then the names; not padded.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Fields::with_capacity(BLOCK_BYTES);
        let mut name_offset = self.0.len() * DIRENT_BYTES;
        for dirent in self.0 {
            bytes.u64(dirent.nid);
            bytes.u16(u16::try_from(name_offset).expect("within a block"));
            bytes.u8(dirent.file_type);
            bytes.u8(0);
            name_offset += dirent.name.len();
        }
        for dirent in self.0 {
            bytes.0.extend(dirent.name);
        }
        bytes.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_filled_but_never_over() {
        let blocks: Vec<_> = split(std::iter::repeat_n(255, 40)).collect();
        assert!(blocks.iter().all(|block| block.bytes <= BLOCK_BYTES));
        assert_eq!(blocks.iter().map(|block| block.entries).collect::<Vec<_>>(), [15, 15, 10]);
        assert_eq!(split(std::iter::empty()).count(), 0);
    }

    #[test]
    fn an_encoded_block_has_the_table_in_front_of_the_names() {
        let dirents =
            [Dirent { name: b".", nid: 36, file_type: 2 }, Dirent { name: b"ab", nid: 40, file_type: 1 }];
        let blocks = pack(&dirents);
        let bytes = blocks[0].encode();
        assert_eq!(bytes.len(), 2 * DIRENT_BYTES + 3);
        assert_eq!(&bytes[..12], [36, 0, 0, 0, 0, 0, 0, 0, 24, 0, 2, 0]);
        assert_eq!(&bytes[24..], b".ab");
    }
}
