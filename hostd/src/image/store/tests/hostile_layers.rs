//! Layers that no tool writes: each is refused with an error that names the image, the layer and the reason.

use super::archives::*;
use super::hostile::refused;
use super::*;

const BLOCK: usize = 512;

/// A layer's archive, header by header.
#[derive(Default)]
struct Raw(Vec<u8>);

impl Raw {
    /// A member with these bytes at these places of its header, and the checksum that they ask for.
    fn member(mut self, path: &[u8], type_flag: u8, fields: &[(usize, &[u8])], data: &[u8]) -> Self {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, path);
        put(100, b"0000644");
        put(124, format!("{:011o}", data.len()).as_bytes());
        put(156, &[type_flag]);
        put(257, if type_flag == b'S' { b"ustar  \0" } else { b"ustar\x0000" });
        fields.iter().for_each(|(at, bytes)| put(*at, bytes));
        put(148, b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    fn file(self, path: &str) -> Self {
        self.member(path.as_bytes(), b'0', &[], b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.member(path.as_bytes(), b'1', &[(157, target.as_bytes())], b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.member(path.as_bytes(), b'2', &[(157, target.as_bytes())], b"")
    }

    /// Pax records for what comes next.
    fn records(self, records: &[&str]) -> Self {
        let mut bytes = String::new();
        for record in records {
            let rest = record.len() + 2;
            let length = (1..).map(|digits| rest + digits).find(|sum| sum.to_string().len() + rest == *sum);
            bytes.push_str(&format!("{} {record}\n", length.unwrap()));
        }
        self.member(b"pax", b'x', &[], bytes.as_bytes())
    }

    /// GNU tar's old sparse format: these segments of a file of this size.
    fn sparse(self, size: u64, segments: &[(u64, u64)], data: &[u8]) -> Self {
        let mut map = Vec::new();
        for (offset, length) in segments {
            map.extend(format!("{offset:011o}\0{length:011o}\0").into_bytes());
        }
        self.member(b"sparse", b'S', &[(386, &map), (483, format!("{size:011o}").as_bytes())], data)
    }
}

/// Each in an image `bad` of one layer.
fn assert_refused(cases: Vec<(Raw, &str)>) {
    for (archive, reason) in cases {
        let text = refused(&docker_save("bad", &[&archive.0]).bytes());
        let start = format!("image bad:latest: layer {}: ", Digest::of(&archive.0));
        assert!(text.starts_with(&start) && text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn paths_and_links_that_lead_elsewhere() {
    let raw = Raw::default;
    assert_refused(vec![
        (raw().file("../../etc/passwd"), "\"../../etc/passwd\": its path leaves the layer through '..'"),
        (raw().file("a/b/../../../c"), "leaves the layer"),
        (raw().file("a/.wh..."), "leaves the layer"),
        (raw().file("a/.wh."), "a whiteout that names nothing"),
        (raw().records(&["path=x/../../y"]).file("a"), "leaves the layer"),
        (raw().link("a", "../b"), "entry \"a\": its link target: its path leaves the layer"),
        (raw().link("a", "nothing"), "entry \"a\": a hard link to a path that does not exist"),
        (raw().link("a", ""), "a hard link to a path that does not exist"),
        (raw().member(b"d", b'5', &[], b"").link("a", "d"), "a hard link to a directory"),
        (raw().file("a").link("a/b", "a"), "a hard link below its own target"),
        (raw().symlink("a", "b").symlink("b", "a").file("a/x"), "a loop of symbolic links"),
        (raw().symlink("a", ""), "a symbolic link's target has 1 to 4095 bytes"),
    ]);
}

#[test]
fn names_that_no_file_system_holds() {
    let raw = Raw::default;
    let long = format!("path={}", "n".repeat(256));
    let deep = format!("path={}x", "d/".repeat(2048));
    assert_refused(vec![
        (raw().file(""), "an empty name or one with a NUL"),
        (raw().records(&["path=a\0b"]).file("a"), "an empty name or one with a NUL"),
        (raw().records(&["linkpath=a\0b"]).symlink("a", "b"), "an empty name or one with a NUL"),
        (raw().records(&[&long]).file("a"), "a component of more than 255 bytes"),
        (raw().records(&[&deep]).file("a"), "more than 4096 bytes"),
        (raw().file("."), "the root must be a directory"),
    ]);
}

#[test]
fn headers_that_contradict_themselves() {
    let raw = Raw::default;
    let huge = format!("comment={}", "x".repeat(1 << 20));
    assert_refused(vec![
        (raw().records(&["path=a"]).records(&["path=b"]).file("c"), "two extension headers of one kind"),
        (raw().member(b"l", b'L', &[], b"a\0").member(b"l", b'L', &[], b"b\0").file("c"), "two extension"),
        (raw().member(b"p", b'x', &[], b"99 path=a\n").file("c"), "a pax record is malformed"),
        (raw().records(&["size=-1"]).file("c"), "a pax record is malformed"),
        (raw().records(&[&huge]).file("c"), "an extension header of more than 1 MiB"),
        (raw().records(&["uid=4294967296"]).file("c"), "\"c\": a user id above 32 bits"),
        (raw().records(&["path=a"]), "it ends within a member"),
        (raw().member(b"a", b'0', &[(124, &[0xff; 12])], b""), "a negative number"),
        (raw().member(b"a", b'0', &[(124, b"-0000000001")], b""), "should be a number"),
        (
            raw().member(b"a", b'0', &[(124, &[0x80, 0, 0, 0, 0x7f, 1, 1, 1, 1, 1, 1, 1])], b""),
            "files of more than 16 TiB",
        ),
        (raw().member(b"a", b'0', &[(124, b"77777777777")], b""), "ends within"),
        (raw().member(b"a", b'3', &[(329, b"0020000")], b""), "a device number is out of range"),
        (raw().member(b"a", b'4', &[(337, b"77777777")], b""), "a device number is out of range"),
        (raw().member(b"a", b'V', &[], b""), "\"a\": an unsupported type of member"),
    ]);
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

#[test]
fn sparse_maps_that_do_not_fit_their_file() {
    let raw = Raw::default;
    let unfit = "a sparse map does not fit its file";
    let with_map = |records: &[&str], data: &[u8]| raw().records(records).member(b"a", b'0', &[], data);
    assert_refused(vec![
        (raw().sparse(10, &[(0, 2), (1, 2)], b"abcd"), unfit),
        (raw().sparse(10, &[(4, 2), (0, 2)], b"abcd"), unfit),
        (raw().sparse(10, &[(9, 2)], b"ab"), unfit),
        (raw().sparse(10, &[(0, 2)], b"abc"), unfit),
        (with_map(&["GNU.sparse.size=9", "GNU.sparse.map=0,2,1,2"], b"abcd"), unfit),
        (with_map(&["GNU.sparse.size=9", "GNU.sparse.map=0,2,4"], b"ab"), "a pax record is malformed"),
        (with_map(&["GNU.sparse.size=9", "GNU.sparse.numbytes=2"], b"ab"), "a pax record is malformed"),
        (with_map(&["GNU.sparse.major=2", "GNU.sparse.realsize=9"], b"ab"), "of an unknown version"),
        (
            with_map(&["GNU.sparse.major=1", "GNU.sparse.realsize=9"], &padded(b"2\n0\nx\n")),
            "a sparse map is malformed",
        ),
        (
            with_map(&["GNU.sparse.major=1", "GNU.sparse.realsize=9"], b"1\n0\n2\n"),
            "it ends within a sparse map",
        ),
    ]);
}

#[test]
fn streams_that_are_cut_off() {
    let whole = Raw::default().member(b"a", b'0', &[], &[7; 3000]).file("b").0;
    for length in [100, 512, 513, 3000, 3583, 3584 + 511] {
        let cut = Raw(whole[..length].to_vec());
        assert_refused(vec![(cut, "ends within")]);
    }
}
