//! What the reader makes of archives written by the `tar` crate and of archives that no tool would write.

use std::io::Cursor;

use super::*;

fn header(path: &str, type_flag: u8, size_bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(tar::EntryType::new(type_flag));
    header.set_size(size_bytes);
    header.set_mode(0o644);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(3);
    header.set_cksum();
    header
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

fn block(header: &tar::Header) -> Vec<u8> {
    header.as_bytes().to_vec()
}

fn read_all(archive: Vec<u8>) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
    let mut stream = TarStream::new(Cursor::new(archive));
    let mut members = Vec::new();
    while let Some(member) = stream.next_member()? {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        members.push((member, bytes));
    }
    Ok(members)
}

#[test]
fn members_come_with_their_bytes() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/file", "d".repeat(150));
    let mut file = header("", b'0', 5);
    builder.append_data(&mut file, "a/b", &b"hello"[..]).unwrap();
    builder.append_data(&mut file, &long, &b"world"[..]).unwrap();
    builder.append_link(&mut header("", b'2', 0), "link", "t".repeat(200)).unwrap();
    let members = read_all(builder.into_inner().unwrap()).unwrap();
    assert_eq!(members.len(), 3);
    assert_eq!((members[0].0.path.as_slice(), members[0].1.as_slice()), (&b"a/b"[..], &b"hello"[..]));
    assert_eq!((members[0].0.uid, members[0].0.gid, members[0].0.modified.seconds), (1, 2, 3));
    assert_eq!((members[1].0.path.as_slice(), members[1].1.as_slice()), (long.as_bytes(), &b"world"[..]));
    assert_eq!(members[2].0.kind, MemberKind::Symlink { target: vec![b't'; 200] });
}

#[test]
fn pax_records_override_the_header() {
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([
            ("path", &b"real/\xff"[..]),
            ("size", b"3"),
            ("uid", b"4000000000"),
            ("mtime", b"5.25"),
            ("SCHILY.xattr.security.capability", b"\x01\n\x00"),
        ])
        .unwrap();
    let archive = [builder.into_inner().unwrap(), block(&header("x", b'0', 0)), padded(b"abc")].concat();
    // The builder's end marker comes first; take it out.
    let archive: Vec<u8> =
        archive.chunks(BLOCK_BYTES).filter(|b| b.iter().any(|x| *x != 0)).flatten().copied().collect();
    let members = read_all(archive).unwrap();
    let (member, bytes) = &members[0];
    assert_eq!((member.path.as_slice(), bytes.as_slice()), (&b"real/\xff"[..], &b"abc"[..]));
    assert_eq!(member.uid, 4_000_000_000);
    assert_eq!(member.modified, ModificationTime { seconds: 5, nanoseconds: 250_000_000 });
    assert_eq!(member.xattrs, [(b"security.capability".to_vec(), b"\x01\n\x00".to_vec())]);
}

#[test]
fn types_without_data_have_none_whatever_their_size_says() {
    let archive = [block(&header("d", b'5', 4096)), block(&header("f", b'0', 1)), padded(b"x")].concat();
    let members = read_all(archive).unwrap();
    assert_eq!(members[0].0.kind, MemberKind::Directory);
    assert_eq!((members[1].0.path.as_slice(), members[1].1.as_slice()), (&b"f"[..], &b"x"[..]));
}

/// The same file, 10,000 bytes with "ab" at 4096 and "c" at 9999, in each sparse format.
#[test]
fn sparse_files_of_every_format_are_understood() {
    let expected =
        [(4096, 2), (9999, 1)].map(|(offset_bytes, length_bytes)| Segment { offset_bytes, length_bytes });
    let mut old = header("f", b'S', 3);
    let gnu = old.as_gnu_mut().unwrap();
    gnu.set_real_size(10_000);
    for (slot, segment) in gnu.sparse.iter_mut().zip(expected) {
        slot.set_offset(segment.offset_bytes);
        slot.set_length(segment.length_bytes);
    }
    old.set_cksum();
    let old = [block(&old), padded(b"abc")].concat();
    let with_records = |records: &[(&str, &str)], data: Vec<u8>| {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes()))).unwrap();
        let mut archive = builder.into_inner().unwrap();
        archive.truncate(2 * BLOCK_BYTES);
        [archive, block(&header("f", b'0', data.len() as u64)), padded(&data)].concat()
    };
    let size = ("GNU.sparse.size", "10000");
    let pairs = [("GNU.sparse.offset", "4096"), ("GNU.sparse.numbytes", "2")];
    let more = [("GNU.sparse.offset", "9999"), ("GNU.sparse.numbytes", "1")];
    let v00 = with_records(&[&[size], &pairs[..], &more].concat(), b"abc".to_vec());
    let v01 = with_records(&[size, ("GNU.sparse.map", "4096,2,9999,1")], b"abc".to_vec());
    let records = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "f"),
        ("GNU.sparse.realsize", "10000"),
    ];
    let v10 = with_records(&records, [padded(b"2\n4096\n2\n9999\n1\n"), b"abc".to_vec()].concat());
    for archive in [old, v00, v01, v10] {
        let members = read_all(archive).unwrap();
        let (member, bytes) = &members[0];
        assert_eq!(member.kind, MemberKind::File { size_bytes: 10_000, segments: expected.to_vec() });
        assert_eq!((member.path.as_slice(), bytes.as_slice()), (&b"f"[..], &b"abc"[..]));
    }
}

#[test]
fn hostile_archives_are_errors() {
    let mut wrong_checksum = block(&header("f", b'0', 0));
    wrong_checksum[0] ^= 1;
    let bomb = block(&header("././@LongLink", b'L', u64::MAX / 2));
    let twice = [block(&header("x", b'L', 1)), padded(b"a")].concat().repeat(2);
    let mut overlapping = header("f", b'S', 3);
    overlapping.as_gnu_mut().unwrap().set_real_size(1);
    overlapping.as_gnu_mut().unwrap().sparse[0].set_length(3);
    overlapping.set_cksum();
    for (archive, reason) in [
        (wrong_checksum, "checksum"),
        (bomb, "more than 1 MiB"),
        (twice, "two extension headers"),
        (block(&header("f", b'0', 100)), "ends within a member"),
        (block(&header("f", b'0', u64::MAX)), "should be a number"),
        (block(&header("f", b'V', 0)), "unsupported type"),
        (block(&header("", b'0', 0)), "an empty name"),
        ([block(&header("x", b'L', 1)), padded(b"a")].concat(), "ends within a member"),
        (block(&header("f", b'0', 0))[..100].to_vec(), "ends within a header"),
        ([block(&overlapping), padded(b"abc")].concat(), "sparse map"),
    ] {
        let error = read_all(archive).unwrap_err();
        let text = format!(
            "{error} {}",
            std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
        );
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_input_makes_it_panic(noise in proptest::collection::vec(proptest::num::u8::ANY, 0..2048), at in 0_usize..1024) {
        drop(read_all(noise.clone()));
        // Noise in an otherwise sound archive gets further.
        let mut archive = [block(&header("f", b'0', 10)), padded(b"0123456789"), block(&header("g", b'5', 0))].concat();
        let end = archive.len().min(at + noise.len());
        archive[at..end].copy_from_slice(&noise[..end - at]);
        drop(read_all(archive));
    }
}
