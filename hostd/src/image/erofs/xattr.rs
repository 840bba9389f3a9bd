//! Extended attributes, all inline behind their inode: a header of 12 bytes, then entries of whole words.

use super::format::Fields;

/// `struct erofs_xattr_ibody_header`.
const HEADER_BYTES: usize = 12;
const WORD_BYTES: usize = 4;

/// Name prefixes that are stored as a number. The two ACLs are all prefix.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The attributes' bytes; empty if there are none.
pub(super) fn encode(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<_> = xattrs.iter().filter_map(|(name, value)| Some((split(name)?, value))).collect();
    if entries.is_empty() {
        return Vec::new();
    }
    let mut bytes = Fields(vec![0; HEADER_BYTES]); // no name filter, no shared entries
    for ((index, suffix), value) in entries {
        bytes.u8(u8::try_from(suffix.len()).expect("layers bound names"));
        bytes.u8(index);
        bytes.u16(u16::try_from(value.len()).expect("layers bound values"));
        bytes.0.extend(suffix);
        bytes.0.extend(value);
        bytes.zeros(bytes.0.len().next_multiple_of(WORD_BYTES) - bytes.0.len());
    }
    bytes.0
}

/// `i_xattr_icount`: one for the header, one for each word that follows.
pub(super) fn count_field(encoded_bytes: usize) -> u16 {
    if encoded_bytes == 0 {
        return 0;
    }
    u16::try_from((encoded_bytes - HEADER_BYTES) / WORD_BYTES + 1).expect("layers bound attributes")
}

/// Prefix number and rest of a name. Layers hold no other names than these.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, index)| Some((*index, name.strip_prefix(*prefix)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_whole_words_behind_a_header() {
        let bytes =
            encode(&[(b"user.a".to_vec(), b"xyz".to_vec()), (b"system.posix_acl_access".to_vec(), vec![])]);
        assert_eq!(&bytes[HEADER_BYTES..], b"\x01\x01\x03\x00axyz\x00\x02\x00\x00");
        assert_eq!(count_field(bytes.len()), 4);
        assert_eq!((encode(&[]), count_field(0)), (vec![], 0));
    }
}
