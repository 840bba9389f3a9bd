//! What a container finds on its image's disk, entry by entry, beside what the layers' archives say.

use std::collections::BTreeMap;
use std::path::Path;

use berth_tests::Host;
use berth_tests::made_image::{MadeImage, digest};
use tar::{Builder, EntryType, Header};

const UID: u64 = 1000;
const GID: u64 = 70_000;
/// A line for each entry of the tree, links and contents with it. A directory's size and links are the file system's
/// own business.
const LISTING: &str = r#"
cd /tree && find . | while IFS= read -r path; do
    if [ -L "$path" ]; then what="-> $(readlink "$path")"
    elif [ -d "$path" ]; then what=directory
    elif [ -f "$path" ]; then what="$(stat -c %h:%s "$path") $(sha256sum < "$path" | cut -c 1-64)"
    else what="$(stat -c %t:%T "$path")"
    fi
    echo "$path|$(stat -c '%f|%u:%g|%y' "$path")|$what"
done"#;

/// A layer in the making, and what a container must see of it.
struct Layer<'a> {
    archive: Builder<Vec<u8>>,
    expected: &'a mut BTreeMap<String, String>,
}

impl Layer<'_> {
    fn new(expected: &mut BTreeMap<String, String>) -> Layer<'_> {
        Layer { archive: Builder::new(Vec::new()), expected }
    }

    fn add(&mut self, path: &str, kind: EntryType, mode: u32, change: impl Fn(&mut Header), content: &[u8]) {
        self.archive
            .append_pax_extensions([("mtime", &b"1700000000.123456789"[..])])
            .expect("memory can be written");
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(UID);
        header.set_gid(GID);
        header.set_size(content.len() as u64);
        change(&mut header);
        self.archive
            .append_data(&mut header, Path::new("tree").join(path), content)
            .expect("memory can be written");
    }

    fn expect(&mut self, path: &str, mode: u32, what: &str) {
        let path = if path.is_empty() { ".".to_owned() } else { format!("./{path}") };
        let line = format!("{mode:x}|{UID}:{GID}|2023-11-14 22:13:20.123456789 +0000|{what}");
        self.expected.insert(path, line);
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8], links: u32) {
        self.add(path, EntryType::Regular, mode, |_| {}, content);
        self.expect_file(path, mode, content, links);
    }

    fn expect_file(&mut self, path: &str, mode: u32, content: &[u8], links: u32) {
        let digest = digest(content);
        let digest = digest.strip_prefix("sha256:").expect("a digest");
        self.expect(path, 0o100_000 | mode, &format!("{links}:{} {digest}", content.len()));
    }

    fn directory(&mut self, path: &str) {
        self.add(path, EntryType::Directory, 0o750, |_| {}, b"");
        self.expect(path, 0o040_750, "directory");
    }

    fn special(&mut self, path: &str, kind: EntryType, format: u32, (major, minor): (u32, u32)) {
        let device = |header: &mut Header| {
            header.set_device_major(major).expect("a GNU header");
            header.set_device_minor(minor).expect("a GNU header");
        };
        self.add(path, kind, 0o600, device, b"");
        self.expect(path, format | 0o600, &format!("{major:x}:{minor:x}"));
    }

    fn symlink(&mut self, path: &str, target: &str) {
        self.archive
            .append_pax_extensions([("mtime", &b"1700000000.123456789"[..])])
            .expect("memory can be written");
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(UID);
        header.set_gid(GID);
        header.set_size(0);
        self.archive
            .append_link(&mut header, Path::new("tree").join(path), target)
            .expect("memory can be written");
        self.expect(path, 0o120_777, &format!("-> {target}"));
    }

    fn hard_link(&mut self, path: &str, target: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        let target = Path::new("tree").join(target);
        self.archive
            .append_link(&mut header, Path::new("tree").join(path), target)
            .expect("memory can be written");
    }

    /// A marker in the archive, which no container sees.
    fn marker(&mut self, path: &str) {
        self.add(path, EntryType::Regular, 0o644, |_| {}, b"");
    }

    fn bytes(self) -> Vec<u8> {
        self.archive.into_inner().expect("memory can be written")
    }
}

fn lower(expected: &mut BTreeMap<String, String>) -> Vec<u8> {
    let mut layer = Layer::new(expected);
    layer.directory("");
    for length in [0, 1, 2048, 2049, 4095, 4096, 4097, 6144, 6145, 300_000] {
        layer.file(&format!("file-{length}"), 0o640, &vec![b'x'; length], 1);
    }
    layer.file("set-uid", 0o4755, b"#!/bin/sh", 1);
    layer.file("shared", 0o644, &[b's'; 5000], 3);
    layer.hard_link("same", "shared");
    layer.expect_file("same", 0o644, &[b's'; 5000], 3);
    layer.symlink("short", "shared");
    layer.symlink("long", &"to/".repeat(500));
    layer.special("null", EntryType::Char, 0o020_000, (1, 3));
    layer.special("disk", EntryType::Block, 0o060_000, (259, 70_000));
    layer.special("fifo", EntryType::Fifo, 0o010_000, (0, 0));
    layer.directory("emptied");
    layer.directory("deep");
    let deep = ["deep"; 60].join("/");
    layer.file(&format!("{deep}/file"), 0o600, b"down here", 1);
    layer.marker("hidden");
    layer.marker("emptied/hidden");
    layer.marker("replaced");
    layer.bytes()
}

fn upper(expected: &mut BTreeMap<String, String>) -> Vec<u8> {
    let mut layer = Layer::new(expected);
    layer.marker(".wh.hidden");
    layer.marker("emptied/.wh..wh..opq");
    layer.file("emptied/new", 0o644, b"new", 1);
    layer.file("replaced", 0o600, &[b'r'; 2000], 1);
    layer.hard_link("also", "shared");
    layer.expect_file("also", 0o644, &[b's'; 5000], 3);
    layer.bytes()
}

#[test]
fn a_container_sees_what_the_archives_say() {
    let Some(host) = Host::empty() else { return };
    let mut expected = BTreeMap::new();
    let mut layers = MadeImage::layers_of_archive(Path::new(&host.image_archive("busybox")));
    layers.push(lower(&mut expected));
    layers.push(upper(&mut expected));
    // Directories that no archive names are root's, of 1970.
    for depth in 2..=60 {
        let path = format!("./{}", ["deep"; 60][..depth].join("/"));
        expected.insert(path, "41ed|0:0|1970-01-01 00:00:00.000000000 +0000|directory".to_owned());
    }
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("tree.tar");
    MadeImage::of_layers(&layers).write_archive(&archive, "tree:1");
    let client = host.berth();
    client.run(["load", "--input", archive.to_str().unwrap()]).exits_with(0);
    let listing =
        client.run(["run", "--rm", "--env", "TZ=UTC", "tree:1", "/bin/sh", "-c", LISTING]).exits_with(0);
    let line = |line: &str| line.split_once('|').map(|(path, rest)| (path.to_owned(), rest.to_owned()));
    let seen: BTreeMap<_, _> = listing.stdout.lines().filter_map(line).collect();
    for (path, expected) in &expected {
        assert_eq!(seen.get(path), Some(expected), "{path}");
    }
    assert_eq!(seen.len(), expected.len(), "{:?}", seen.keys().find(|path| !expected.contains_key(*path)));
}
