//! Trees that were written, as another implementation reads them.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{CWD, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags, utimensat};
use tar::{Archive, EntryType};

use super::header::{Attribute, Device, Entry, Kind, Time};
use super::{write_named, write_tree};
use crate::container::ids::IdMaps;

/// An entry as it was read.
#[derive(Debug)]
struct Found {
    path: Vec<u8>,
    target: Option<Vec<u8>>,
    kind: EntryType,
    mode: u32,
    ids: (u64, u64),
    seconds: u64,
    device: (Option<u32>, Option<u32>),
    records: Vec<(Vec<u8>, Vec<u8>)>,
    content: Vec<u8>,
}

fn read(archive: &[u8]) -> Vec<Found> {
    let mut archive = Archive::new(archive);
    archive.entries().unwrap().map(|entry| read_entry(entry.unwrap())).collect()
}

fn read_entry(mut entry: tar::Entry<'_, &[u8]>) -> Found {
    let records = entry.pax_extensions().unwrap().into_iter().flatten();
    let records = records.map(|record| record.unwrap());
    let records =
        records.map(|record| (record.key_bytes().to_vec(), record.value_bytes().to_vec())).collect();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let header = entry.header();
    Found {
        path: entry.path_bytes().into_owned(),
        target: entry.link_name_bytes().map(|target| target.into_owned()),
        kind: header.entry_type(),
        mode: header.mode().unwrap(),
        ids: (header.uid().unwrap(), header.gid().unwrap()),
        seconds: header.mtime().unwrap(),
        device: (header.device_major().unwrap(), header.device_minor().unwrap()),
        records,
        content,
    }
}

fn write(root: &Path) -> Vec<u8> {
    let root = fs::File::open(root).unwrap();
    let mut archive = Vec::new();
    write_tree(root.as_fd(), &IdMaps::default(), &mut archive).unwrap();
    archive
}

fn names(entries: &[Found]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

#[test]
fn every_kind_of_file_arrives() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("directory/file"), vec![7; 100_000]).unwrap();
    fs::set_permissions(path("directory/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::hard_link(path("directory/file"), path("link")).unwrap();
    symlink("/etc/passwd", path("symlink")).unwrap();
    rustix::fs::mknodat(CWD, path("fifo"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();

    let archive = write(root.path());
    assert_eq!(archive.len() % 512, 0);
    let entries = read(&archive);
    assert_eq!(names(&entries), ["directory/", "directory/file", "empty", "fifo", "link", "symlink"]);
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    let file = EntryType::Regular;
    assert_eq!(
        kinds,
        [EntryType::Directory, file, file, EntryType::Fifo, EntryType::Link, EntryType::Symlink]
    );
    assert_eq!((entries[1].mode, entries[1].content.as_slice()), (0o4751, &[7; 100_000][..]));
    let own = fs::metadata(path("empty")).unwrap();
    assert_eq!(entries[2].ids, (own.uid().into(), own.gid().into()));
    assert_eq!(entries[4].target.as_deref(), Some(&b"directory/file"[..]));
    assert_eq!((entries[4].content.len(), entries[5].target.as_deref()), (0, Some(&b"/etc/passwd"[..])));
    assert_eq!(archive, write(root.path()), "the same files make the same archive");
}

#[test]
fn a_named_file_is_the_archives_first_and_its_names_begin_with_its_own() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("d/left")).unwrap();
    fs::write(root.path().join("d/f"), "x").unwrap();
    fs::hard_link(root.path().join("d/f"), root.path().join("d/left/h")).unwrap();
    symlink("d", root.path().join("s")).unwrap();
    let named = |path: &str, name: &str, enters: &dyn Fn(&Stat) -> bool| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let file = rustix::fs::open(root.path().join(path), flags, Mode::empty()).unwrap();
        let mut archive = Vec::new();
        write_named(&file, name.as_bytes(), &IdMaps::default(), |_, stat| enters(stat), &mut archive)
            .unwrap();
        read(&archive)
    };
    let entries = named("d", "new", &|_| true);
    assert_eq!(names(&entries), ["new/", "new/f", "new/left/", "new/left/h"]);
    assert_eq!(entries[3].target.as_deref(), Some(&b"new/f"[..]));
    assert_eq!(names(&named("d", ".", &|_| true)), ["./", "./f", "./left/", "./left/h"]);
    assert_eq!(names(&named("d", "/", &|_| true)), ["/", "/f", "/left/", "/left/h"]);
    assert_eq!(names(&named("d", "d", &|_| false)), ["d/"]);
    assert_eq!(names(&named("d/f", "g", &|_| true)), ["g"]);
    let link = named("s", "s", &|_| true).pop().unwrap();
    assert_eq!((link.kind, link.target.as_deref()), (EntryType::Symlink, Some(&b"d"[..])));
}

#[test]
fn names_of_any_length_and_encoding_arrive() {
    let root = tempfile::tempdir().unwrap();
    let long = vec![b'x'; 200];
    let strange = b"not \xff\xfe UTF-8\n".to_vec();
    let both = [b"\xff".as_slice(), &[b'y'; 150]].concat();
    for name in [&long, &strange, &both] {
        fs::write(root.path().join(OsStr::from_bytes(name)), "here").unwrap();
    }
    symlink(OsStr::from_bytes(&[b"/".as_slice(), &long].concat()), root.path().join("to")).unwrap();
    let deep: Vec<u8> = std::iter::repeat_n(b"deeper/", 200).flatten().copied().collect();
    fs::create_dir_all(root.path().join(OsStr::from_bytes(&deep))).unwrap();

    let entries = read(&write(root.path()));
    for name in [&long, &strange, &both] {
        let entry = entries.iter().find(|entry| entry.path == *name).unwrap();
        assert_eq!(entry.content, b"here");
    }
    assert!(entries.iter().any(|entry| entry.path == deep));
    assert!(entries.iter().any(|entry| entry.target.as_ref().is_some_and(|target| target[1..] == long)));
}

#[test]
fn times_and_attributes_arrive_whole() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, "x").unwrap();
    let value = b"a=b\0\xff";
    if let Err(error) = rustix::fs::setxattr(&path, "user.one=two", value, XattrFlags::empty()) {
        eprintln!("skipped: times_and_attributes_arrive_whole: user attributes: {error}");
        return;
    }
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let may_have_capabilities =
        rustix::fs::setxattr(&path, "security.capability", capability, XattrFlags::empty()).is_ok();
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time(5, 0), last_modification: time(1_700_000_000, 123_456_789) };
    utimensat(CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();

    let entry = read(&write(root.path())).pop().unwrap();
    let record =
        |key: &[u8]| entry.records.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    assert_eq!(record(b"mtime").unwrap(), b"1700000000.123456789");
    assert_eq!(record(b"SCHILY.xattr.user.one%3Dtwo").unwrap(), value);
    let found = record(b"SCHILY.xattr.security.capability");
    assert_eq!(found, may_have_capabilities.then(|| capability.to_vec()));
    assert_eq!(entry.seconds, 1_700_000_000);
    assert_eq!(fs::metadata(&path).unwrap().atime(), 5, "reading it does not count as an access");
}

#[test]
fn a_reader_that_goes_ends_the_walk_and_a_missing_root_is_an_error() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "x").unwrap();
    let directory = fs::File::open(root.path()).unwrap();
    let error = write_tree(directory.as_fd(), &IdMaps::default(), &mut Gone).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    assert!(error.to_string().starts_with("/file: "), "{error}");
    let file = fs::File::open(root.path().join("file")).unwrap();
    assert!(write_tree(file.as_fd(), &IdMaps::default(), &mut Vec::new()).is_err());
}

#[test]
fn numbers_beyond_the_block_are_in_records() {
    let entry = Entry {
        path: b"big",
        kind: Kind::File,
        mode: 0o644,
        user_id: u32::MAX,
        group_id: 1 << 21,
        size_bytes: 1 << 40,
        modified: Time { seconds: -2, nanoseconds: 500_000_000 },
        attributes: &[],
    };
    let header = String::from_utf8_lossy(&entry.header()).into_owned();
    for record in
        ["18 uid=4294967295\n", "15 gid=2097152\n", "22 size=1099511627776\n", "22 mtime=-1.500000000\n"]
    {
        assert!(header.contains(record), "{record:?} in {header:?}");
    }
}

#[test]
fn a_record_counts_itself_and_whatever_bytes_it_has() {
    let record = |length| {
        let mut records = Vec::new();
        super::header::push_record(&mut records, b"k", &vec![b'\n'; length]);
        String::from_utf8(records).unwrap()
    };
    for length in [0, 3, 4, 5, 92, 93, 94, 95, 991, 992, 993] {
        let record = record(length);
        assert!(record.starts_with(&format!("{} k=", record.len())), "{record}");
        assert!(record.ends_with(&"\n".repeat(length + 1)), "{record}");
    }
}

#[test]
fn devices_have_their_numbers() {
    let entry = Entry {
        path: b"null",
        kind: Kind::CharacterDevice(Device { major: 1, minor: 3 }),
        mode: 0o666,
        user_id: 0,
        group_id: 0,
        size_bytes: 0,
        modified: Time::default(),
        attributes: &[],
    };
    let read = read(&entry.header()).pop().unwrap();
    assert_eq!((read.kind, read.device, read.mode), (EntryType::Char, (Some(1), Some(3)), 0o666));
}

/// The reader takes every newline for the end of a record.
fn not_newline(lowest: u8) -> impl Strategy<Value = u8> {
    (lowest..=255).prop_filter("a newline", |byte| *byte != b'\n')
}

proptest! {
    #[test]
    fn whatever_a_name_or_an_attribute_is_it_is_read_back(
        path in prop::collection::vec(not_newline(1), 1..400),
        target in prop::collection::vec(not_newline(1), 1..400),
        value in prop::collection::vec(not_newline(0), 0..2000),
    ) {
        prop_assume!(!path.ends_with(b"/"));
        let attributes = [Attribute { name: b"user.x".to_vec(), value: value.clone() }];
        let entry = Entry {
            path: &path,
            kind: Kind::SymbolicLink(&target),
            mode: 0o777,
            user_id: 1,
            group_id: 2,
            size_bytes: 0,
            modified: Time { seconds: 7, nanoseconds: 0 },
            attributes: &attributes,
        };
        let read = read(&entry.header()).pop().unwrap();
        prop_assert_eq!(read.path, path);
        prop_assert_eq!(read.target.unwrap(), target);
        prop_assert_eq!(&read.records.iter().find(|(key, _)| key == b"SCHILY.xattr.user.x").unwrap().1, &value);
    }
}
