//! Copies of layers that are archives in memory, judged by what the host finds.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path as HostPath;

use rustix::fs::CWD;

use super::*;
use crate::engine::IdRange;

/// A layer's archive in the making.
struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) -> Self {
        let mut header = header(kind, mode);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.add(path, tar::EntryType::Regular, 0o4751, content)
    }

    fn directory(self, path: &str, mode: u32) -> Self {
        self.add(path, tar::EntryType::Directory, mode, b"")
    }

    fn link(mut self, path: &str, kind: tar::EntryType, target: &str) -> Self {
        self.0.append_link(&mut header(kind, 0o777), path, target).unwrap();
        self
    }

    fn xattr(mut self, key: &str, value: &[u8]) -> Self {
        self.0.append_pax_extensions([(format!("SCHILY.xattr.{key}").as_str(), value)]).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_700_000_000);
    header
}

/// An image, and a directory to copy it into.
struct Scene {
    _root: tempfile::TempDir,
    files: ImageFiles,
    volume: std::path::PathBuf,
}

impl Scene {
    /// Nothing where the test may not give files away.
    fn new(layers: &[Vec<u8>]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: copies of images: only root may give files to others");
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let files = ImageFiles::of_archives(layers, root.path());
        let volume = root.path().join("volume");
        fs::create_dir(&volume).unwrap();
        Some(Self { _root: root, files, volume })
    }

    fn copy(&mut self, path: &str, ids: Option<&UserNamespace>) -> io::Result<()> {
        let from = self.files.directory(path.as_bytes()).expect("a directory of the image");
        copy(&self.files, from, &openat(CWD, &self.volume, DIRECTORY, Mode::empty()).unwrap(), ids)
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.volume.join(path)
    }
}

fn names(directory: &HostPath) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_is_as_the_image_has_it() {
    let long: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let lower = Layer::new()
        .directory("data", 0o1770)
        .file("data/hidden", b"below")
        .file("data/a", b"lower")
        .link("way", tar::EntryType::Symlink, "/data")
        .bytes();
    let upper = Layer::new()
        .file("data/.wh.hidden", b"")
        .xattr("user.colour", b"blue")
        .file("data/a", b"upper")
        .file("data/deep/er/long", &long)
        .file("data/sparse", &[&[0; 150_000][..], b"end"].concat())
        .link("data/b", tar::EntryType::Link, "data/a")
        .link("data/link", tar::EntryType::Symlink, "../../../etc/passwd")
        .add("data/pipe", tar::EntryType::Fifo, 0o622, b"")
        .add("data/null", tar::EntryType::Char, 0o666, b"")
        .bytes();
    let Some(mut scene) = Scene::new(&[lower, upper]) else { return };
    scene.copy("way", None).unwrap();
    assert_eq!(names(&scene.volume), ["a", "b", "deep", "link", "pipe", "sparse"]);
    assert_eq!(fs::read_to_string(scene.at("b")).unwrap(), "upper");
    assert_eq!(fs::read(scene.at("deep/er/long")).unwrap(), long);
    assert!(fs::read(scene.at("sparse")).unwrap().ends_with(b"\0end"));
    assert!(fs::metadata(scene.at("sparse")).unwrap().blocks() < 100, "zeros take no room");
    let of = |path: &str| {
        let found = fs::symlink_metadata(scene.at(path)).unwrap();
        (found.mode() & 0o7777, found.uid(), found.gid(), found.mtime())
    };
    assert_eq!(of(""), (0o1770, 7, 8, 1_700_000_000));
    assert_eq!(of("a"), (0o4751, 7, 8, 1_700_000_000));
    assert_eq!(of("pipe"), (0o622, 7, 8, 1_700_000_000));
    assert_eq!(of("link").1, 7);
    // Which no layer tells of.
    assert_eq!(of("deep/er"), (0o755, 0, 0, 0));
    assert_eq!(fs::metadata(scene.at("a")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(scene.at("link")).unwrap(), HostPath::new("../../../etc/passwd"));
    assert!(fs::metadata(scene.at("pipe")).unwrap().file_type().is_fifo());
    let mut colour = [0; 8];
    match rustix::fs::getxattr(scene.at("a"), "user.colour", &mut colour[..]) {
        Ok(length) => assert_eq!(&colour[..length], b"blue"),
        Err(error) => assert_eq!(error, Errno::NOTSUP),
    }
}

#[test]
fn owners_are_those_of_the_user_namespace() {
    let Some(mut scene) = Scene::new(&[Layer::new().directory("d", 0o700).file("d/a", b"").bytes()]) else {
        return;
    };
    let range = |first| vec![IdRange { first, count: 100 }];
    scene.copy("d", Some(&UserNamespace { users: range(5000), groups: range(6000) })).unwrap();
    for path in ["", "a"] {
        let found = fs::metadata(scene.at(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (5007, 6008), "{path:?}");
    }
}

#[test]
fn a_copy_that_was_interrupted_goes_on_and_takes_nothing_from_anybody() {
    let image =
        Layer::new().directory("d/sub", 0o750).file("d/a", b"image").file("d/sub/b", b"image").bytes();
    let Some(mut scene) = Scene::new(&[image]) else { return };
    fs::write(scene.at("a"), "somebody's").unwrap();
    fs::write(scene.at(".berth-unfinished"), "half").unwrap();
    fs::create_dir(scene.at("sub")).unwrap();
    scene.copy("d", None).unwrap();
    assert_eq!(names(&scene.volume), ["a", "sub"]);
    assert_eq!(fs::read_to_string(scene.at("a")).unwrap(), "somebody's");
    assert_eq!(fs::read_to_string(scene.at("sub/b")).unwrap(), "image");
    assert_eq!(fs::metadata(scene.at("sub")).unwrap().mode() & 0o7777, 0o750);
}

#[test]
fn what_a_guest_has_put_there_leads_nowhere() {
    let image = Layer::new().directory("d/sub", 0o777).file("d/sub/b", b"image").bytes();
    let Some(mut scene) = Scene::new(&[image]) else { return };
    let outside = scene.volume.with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    symlink("../outside", scene.at("sub")).unwrap();
    symlink("../outside/made", scene.at(".berth-unfinished")).unwrap();
    assert!(scene.copy("d", None).is_err(), "a link is no directory to go into");
    assert_eq!(names(&outside), Vec::<String>::new());
    assert_ne!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o777);
}
