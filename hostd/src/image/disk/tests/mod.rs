//! Disks made of real layers, judged by others: `fsck.erofs`, and the kernel's own mount where this host allows it.

mod model;

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::image::layer::unpack;

/// A layer's archive in the making.
struct Layer(tar::Builder<Vec<u8>>, Vec<(String, Vec<u8>)>);

impl Layer {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()), Vec::new())
    }

    fn add(mut self, path: &[u8], type_flag: u8, mode: u32, content: &[u8]) -> Self {
        let size = content.len() as u64;
        let xattrs = std::mem::take(&mut self.1);
        let records = [("path", path), ("mtime", &b"1700000000.123456789"[..])];
        let xattrs = xattrs.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.0.append_pax_extensions(records.into_iter().chain(xattrs)).unwrap();
        let mut header = header(type_flag, mode);
        header.set_size(size);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.add(path.as_bytes(), b'0', 0o640, content)
    }

    fn directory(self, path: &str) -> Self {
        self.add(path.as_bytes(), b'5', 0o750, b"")
    }

    fn link(mut self, path: &str, type_flag: u8, target: &str) -> Self {
        let records = [("path", path.as_bytes()), ("linkpath", target.as_bytes())];
        self.0.append_pax_extensions(records).unwrap();
        let mut header = header(type_flag, 0o777);
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    fn device(mut self, path: &str, type_flag: u8, major: u32, minor: u32) -> Self {
        let mut header = header(type_flag, 0o600);
        header.set_path(path).unwrap();
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    /// For the file that comes next.
    fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.1.push((format!("SCHILY.xattr.{name}"), value.to_vec()));
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn header(type_flag: u8, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(type_flag));
    header.set_mode(mode);
    header.set_uid(1000);
    header.set_gid(70_000);
    header.set_mtime(1_600_000_000);
    header.set_size(0);
    header.set_path("x").unwrap();
    header
}

/// A disk in one file, as a machine would see it.
struct Disk {
    directory: tempfile::TempDir,
    metadata: Vec<u8>,
}

impl Disk {
    fn of(layers: Vec<Vec<u8>>) -> Self {
        Self::try_of(layers).unwrap()
    }

    fn try_of(layers: Vec<Vec<u8>>) -> Result<Self, DiskFileError> {
        let directory = tempfile::tempdir().unwrap();
        let mut directories = Vec::new();
        for bytes in layers {
            let path = directory.path().join(Digest::of(&bytes).hex());
            if fs::create_dir(&path).is_ok() {
                unpack(&bytes, &path).unwrap();
            }
            directories.push(LayerDirectory { diff_id: Digest::of(&bytes), path });
        }
        let path = directory.path().join("metadata");
        build(Digest::of(b"image"), &directories, &path)?;
        let disk = ImageDisk::open(&path, &directories).unwrap();
        let mut whole = File::create(directory.path().join("disk")).unwrap();
        for extent in &disk.extents {
            io::copy(&mut File::open(&extent.path).unwrap(), &mut whole).unwrap();
        }
        assert_eq!(whole.metadata().unwrap().len(), disk.total_bytes);
        Ok(Self { metadata: fs::read(&path).unwrap(), directory })
    }

    /// Whether `fsck.erofs` could be asked. What it finds wrong is a failure.
    fn check(&self) -> bool {
        let disk = self.directory.path().join("disk");
        let Ok(output) = Command::new("fsck.erofs").arg("--extract").arg(&disk).output() else {
            eprintln!("skipped: no fsck.erofs on this host (erofs-utils)");
            return false;
        };
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{:?} {text}", output.status);
        true
    }

    /// What the kernel sees, a line for each path; `None` where this host cannot mount.
    fn mounted(&self) -> Option<BTreeMap<Vec<u8>, Seen>> {
        self.with_mount(|root| {
            let mut seen = BTreeMap::new();
            look(root, root, &mut seen);
            seen
        })
    }

    fn with_mount<T>(&self, work: impl FnOnce(&Path) -> T) -> Option<T> {
        if !rustix::process::geteuid().is_root()
            || !fs::read_to_string("/proc/filesystems").ok()?.contains("erofs")
        {
            eprintln!("skipped: mounting EROFS takes root and a kernel with it");
            return None;
        }
        let (disk, target) = (self.directory.path().join("disk"), self.directory.path().join("mnt"));
        fs::create_dir_all(&target).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "erofs", "-o", "loop,ro"])
            .args([&disk, &target])
            .output()
            .unwrap();
        if !mount.status.success() {
            eprintln!("skipped: {}", String::from_utf8_lossy(&mount.stderr));
            return None;
        }
        let _mount = Mounted(&target);
        Some(work(&target))
    }
}

/// Unmounts, whatever the test does meanwhile.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Between its fork and its execution, a program that another test starts holds a copy of what we have open
        // here: busy for a moment.
        let unmount = || Command::new("umount").arg(self.0).status().is_ok_and(|status| status.success());
        let unmounted = (0..200).any(|_| {
            let done = unmount();
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            done
        });
        assert!(unmounted || std::thread::panicking(), "{} stays busy", self.0.display());
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    links: u64,
    device: u64,
    content: Vec<u8>,
}

fn look(root: &Path, path: &Path, seen: &mut BTreeMap<Vec<u8>, Seen>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let content = if kind.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_vec()
    } else if kind.is_file() {
        fs::read(path).unwrap()
    } else {
        Vec::new()
    };
    let special = kind.is_char_device() || kind.is_block_device();
    let line = Seen {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        links: metadata.nlink(),
        device: if special { metadata.rdev() } else { 0 },
        content,
    };
    seen.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), line);
    if kind.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            look(root, &entry.unwrap().path(), seen);
        }
    }
}

#[test]
fn the_kernel_sees_every_kind_of_entry_as_it_was_archived() {
    let disk = Disk::of(vec![
        Layer::new()
            .add(b"./", b'5', 0o755, b"")
            .directory("d")
            .file("d/file", &[7; 10_000])
            .file("d/empty", b"")
            .add(b"d/suid\xff", b'0', 0o4755, b"x")
            .link("d/hard", b'1', "d/file")
            .link("short", b'2', "d/file")
            .link("long", b'2', &"t/".repeat(2040))
            .device("null", b'3', 1, 3)
            .device("disk", b'4', 259, 70_000)
            .device("fifo", b'6', 0, 0)
            .file(&"n".repeat(255), b"long name")
            .file("hidden", b"x")
            .bytes(),
        Layer::new()
            .file(".wh.hidden", b"")
            .file("upper", b"second layer")
            .link("e/hard", b'1', "d/file")
            .bytes(),
    ]);
    disk.check();
    let Some(seen) = disk.mounted() else { return };
    let at = |path: &[u8]| {
        seen.get(path).unwrap_or_else(|| panic!("{} is missing", String::from_utf8_lossy(path)))
    };
    assert_eq!(seen.len(), 15, "{:?}", seen.keys().map(|k| String::from_utf8_lossy(k)).collect::<Vec<_>>());
    let file = at(b"d/file");
    assert_eq!((file.mode, file.owner, file.links), (0o100_640, (1000, 70_000), 3));
    assert_eq!(file.modified, (1_700_000_000, 123_456_789));
    assert_eq!(file.content, [7; 10_000]);
    assert_eq!(at(b"e/hard"), file);
    assert_eq!(at(b"upper").content, b"second layer");
    assert_eq!(at(b"d/suid\xff").mode, 0o104_755);
    assert_eq!(at(b"short").content, b"d/file");
    assert_eq!(at(b"long").content, "t/".repeat(2040).as_bytes());
    assert_eq!(at("n".repeat(255).as_bytes()).content, b"long name");
    assert_eq!((at(b"null").mode, at(b"null").device), (0o020_600, rustix::fs::makedev(1, 3)));
    assert_eq!((at(b"disk").mode, at(b"disk").device), (0o060_600, rustix::fs::makedev(259, 70_000)));
    assert_eq!(at(b"fifo").mode, 0o010_600);
    assert_eq!((at(b"").links, at(b"d").links), (4, 2));
    assert_eq!((at(b"e").mode, at(b"e").owner, at(b"e").modified), (0o040_755, (0, 0), (0, 0)));
}

#[test]
fn a_big_directory_is_found_by_name_and_by_listing() {
    let mut layer = Layer::new();
    for number in 0..3000 {
        layer = layer.file(&format!("big/{number:0width$}", width = 4 + number % 90), b"");
    }
    // Names that sort before and after the two that every directory has.
    let disk = Disk::of(vec![
        layer.file("big/!", b"").file("big/-", b"").file("big/..a", b"").file("big/z", b"").bytes(),
    ]);
    disk.check();
    let Some(seen) = disk.mounted() else { return };
    assert_eq!(seen.len(), 3000 + 4 + 2);
}

#[test]
fn extended_attributes_are_kept() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let large = vec![b'v'; 9000];
    let layer = Layer::new().xattr("security.capability", &capability).file("a", b"x");
    let disk = Disk::of(vec![layer.xattr("user.large", &large).file("b", b"").bytes()]);
    disk.check();
    let dump =
        Command::new("dump.erofs").args(["--path=/a"]).arg(disk.directory.path().join("disk")).output();
    if let Ok(dump) = dump {
        let text = String::from_utf8_lossy(&dump.stdout).into_owned();
        assert!(text.contains("Xattr size: "), "{text}");
        assert!(!text.contains("Xattr size: 0"), "{text}");
    }
    disk.with_mount(|root| {
        let mut value = vec![0; 16_384];
        let length = rustix::fs::getxattr(root.join("a"), "security.capability", &mut value[..]).unwrap();
        assert_eq!(value[..length], capability);
        let length = rustix::fs::getxattr(root.join("b"), "user.large", &mut value[..]).unwrap();
        assert_eq!(value[..length], large);
    });
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let layers =
        || vec![Layer::new().directory("a").file("a/b", b"c").bytes(), Layer::new().file("d", b"e").bytes()];
    assert_eq!(Disk::of(layers()).metadata, Disk::of(layers()).metadata);
}

#[test]
fn a_layer_that_occurs_twice_has_its_data_once() {
    let layer = || Layer::new().file("a", &[b'b'; 4096]).bytes();
    let middle = Layer::new().file("a", &[b'o'; 4096]).bytes();
    let disk = Disk::of(vec![layer(), middle, layer()]);
    disk.check();
    let length = fs::metadata(disk.directory.path().join("disk")).unwrap().len();
    assert_eq!(length, disk.metadata.len() as u64 + 2 * BLOCK_BYTES);
    if let Some(seen) = disk.mounted() {
        assert_eq!(seen[&b"a"[..]].content, [b'b'; 4096]);
    }
}

#[test]
fn an_image_without_layers_is_an_empty_directory() {
    let disk = Disk::of(vec![]);
    disk.check();
    assert_eq!(disk.metadata.len() as u64, BLOCK_BYTES);
}

#[test]
fn layers_that_do_not_fit_are_named() {
    let layer = Layer::new().link("a", b'1', "missing").bytes();
    let expected = format!("layer {}", Digest::of(&layer));
    let error = Disk::try_of(vec![layer]).err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(error.to_string(), expected);
    assert_eq!(cause, "entry \"a\": a hard link to a path that does not exist");
}

/// Names of all lengths and bytes, some of them colliding so that entries replace each other.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no separator", |byte| !matches!(byte, b'/' | 0));
    let free = proptest::collection::vec(byte, 1..=255);
    let few = prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec()), Just(b"dir".to_vec())];
    prop_oneof![2 => few, 1 => free]
        .prop_filter("an ordinary name", |name| name != b"." && name != b".." && !name.starts_with(b".wh."))
}

fn random_layer() -> impl Strategy<Value = Vec<(Vec<Vec<u8>>, u8, usize)>> {
    let path = proptest::collection::vec(name(), 1..5);
    let kind = prop_oneof![4 => Just(b'0'), 2 => Just(b'5'), 1 => Just(b'6')];
    proptest::collection::vec((path, kind, 0..9000_usize), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random trees against a model that is nothing but a map of paths.
    #[test]
    fn any_tree_reads_back_as_it_was_archived(layers in proptest::collection::vec(random_layer(), 1..4)) {
        let mut expected: BTreeMap<Vec<u8>, (u8, Vec<u8>)> = BTreeMap::new();
        let mut archives = Vec::new();
        for (number, entries) in layers.iter().enumerate() {
            let mut layer = Layer::new();
            for (components, kind, length) in entries {
                let path = components.join(&b'/');
                let content = if *kind == b'0' { vec![u8::try_from(number + 1).unwrap(); *length] } else { vec![] };
                layer = layer.add(&path, *kind, 0o644, &content);
                for depth in 1..components.len() {
                    let parent = components[..depth].join(&b'/');
                    if expected.get(&parent).is_none_or(|(kind, _)| *kind != b'5') {
                        expected.insert(parent, (b'5', vec![]));
                    }
                }
                if *kind != b'5' {
                    let below = [path.as_slice(), b"/"].concat();
                    expected.retain(|other, _| !other.starts_with(&below));
                }
                expected.insert(path, (*kind, content));
            }
            archives.push(layer.bytes());
        }
        let disk = Disk::of(archives);
        disk.check();
        if let Some(mut seen) = disk.mounted() {
            seen.remove(&b""[..]);
            let seen: BTreeMap<_, _> = seen.into_iter().map(|(path, line)| {
                let kind = match line.mode & 0o170_000 { 0o100_000 => b'0', 0o040_000 => b'5', _ => b'6' };
                (path, (kind, line.content))
            }).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}

/// Entries that no tool writes: paths that climb, links to anything, markers of every kind, sizes that do not fit.
fn hostile_entry() -> impl Strategy<Value = (String, u8, String, u64)> {
    let component = prop_oneof![
        6 => prop_oneof![Just("a"), Just("b"), Just("c")],
        1 => prop_oneof![Just(".."), Just("."), Just(""), Just(".wh.a"), Just(".wh..wh..opq"), Just(".wh.."), Just(".wh.")],
    ];
    let path =
        || proptest::collection::vec(component.clone(), 1..5).prop_map(|components| components.join("/"));
    let kind = proptest::sample::select(&b"0123456725\0"[..]);
    (path(), kind, path(), prop_oneof![8 => Just(0_u64), 1 => 1..2000_u64])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a layer says, it is refused or becomes a disk that passes the check.
    #[test]
    fn any_layer_is_refused_or_gives_a_sound_disk(entries in proptest::collection::vec(hostile_entry(), 0..12)) {
        let mut bytes = Vec::new();
        for (path, kind, target, size) in entries {
            let mut header = header(kind, 0o777);
            let name = header.as_mut_bytes();
            name[..100].fill(0);
            name[..path.len()].copy_from_slice(path.as_bytes());
            name[157..157 + target.len()].copy_from_slice(target.as_bytes());
            header.set_size(size);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.resize((bytes.len() as u64 + size.next_multiple_of(512)).try_into().unwrap(), 0);
        }
        let directory = tempfile::tempdir().unwrap();
        if unpack(&bytes, directory.path()).is_ok()
            && let Ok(disk) = Disk::try_of(vec![bytes])
        {
            disk.check();
        }
    }
}
