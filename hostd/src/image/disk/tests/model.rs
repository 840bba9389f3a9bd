//! Images of several layers against a model of what layers mean: a map of paths, and nothing of disks in it.
//!
//! Whiteouts, opaque directories and hard links in any order and on anything. The disk is read back by the reader
//! that is written from the format, so this runs everywhere.

use super::*;
use crate::image::erofs::reader::{self, Node};

#[derive(Clone, Debug)]
enum Step {
    File { path: String, length: usize },
    Directory(String),
    HardLink { path: String, target: String },
    Whiteout(String),
    Opaque(String),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![0..10_usize, 2040..2060_usize, 4090..4100_usize, 6140..6150_usize];
    prop_oneof![
        5 => (path(), length).prop_map(|(path, length)| Step::File { path, length }),
        3 => path().prop_map(Step::Directory),
        2 => (path(), path()).prop_map(|(path, target)| Step::HardLink { path, target }),
        2 => path().prop_map(Step::Whiteout),
        1 => path().prop_map(Step::Opaque),
    ]
}

/// What is at a path; a file by its number in `Model::files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Directory,
    File(usize),
}

#[derive(Debug, Default)]
struct Model {
    paths: BTreeMap<String, Found>,
    files: Vec<Vec<u8>>,
}

impl Model {
    /// `None` if the layer does not fit.
    fn apply(&mut self, layer: u8, steps: &[Step]) -> Option<()> {
        for step in steps {
            match step {
                Step::Whiteout(path) => self.remove(path),
                Step::Opaque(path) if self.paths.get(path) == Some(&Found::Directory) => self.clear(path),
                _ => {}
            }
        }
        for step in steps {
            match step {
                Step::File { path, length } => {
                    self.files.push(vec![layer + 1; *length]);
                    self.put(path, Found::File(self.files.len() - 1));
                }
                Step::Directory(path) => {
                    if self.paths.get(path) != Some(&Found::Directory) {
                        self.put(path, Found::Directory);
                    }
                }
                Step::HardLink { path, target } => {
                    let Some(Found::File(file)) = self.paths.get(target).copied() else { return None };
                    self.make_parents(path);
                    self.paths.values().find(|found| **found == Found::File(file))?;
                    if self.paths.get(path) != Some(&Found::File(file)) {
                        self.put(path, Found::File(file));
                    }
                }
                Step::Whiteout(_) | Step::Opaque(_) => {}
            }
        }
        Some(())
    }

    fn put(&mut self, path: &str, found: Found) {
        self.make_parents(path);
        self.remove(path);
        self.paths.insert(path.to_owned(), found);
    }

    fn make_parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            if self.paths.get(parent) != Some(&Found::Directory) {
                self.paths.insert(parent.to_owned(), Found::Directory);
            }
        }
    }

    fn remove(&mut self, path: &str) {
        self.clear(path);
        self.paths.remove(path);
    }

    fn clear(&mut self, path: &str) {
        let below = format!("{path}/");
        self.paths.retain(|other, _| !other.starts_with(&below));
    }
}

fn archive(layer: u8, steps: &[Step]) -> Vec<u8> {
    let marker = |path: &str, name: &dyn Fn(&str) -> String| match path.rsplit_once('/') {
        Some((parent, last)) => format!("{parent}/{}", name(last)),
        None => name(path),
    };
    let add = |archive: Layer, step: &Step| match step {
        Step::File { path, length } => archive.file(path, &vec![layer + 1; *length]),
        Step::Directory(path) => archive.directory(path),
        Step::HardLink { path, target } => archive.link(path, b'1', target),
        Step::Whiteout(path) => archive.file(&marker(path, &|last| format!(".wh.{last}")), b""),
        Step::Opaque(path) => archive.file(&format!("{path}/.wh..wh..opq"), b""),
    };
    steps.iter().fold(Layer::new(), add).bytes()
}

impl Disk {
    /// A file's bytes: whole blocks behind the metadata, and what lies behind the inode.
    fn content(&self, node: &Node) -> Vec<u8> {
        let disk = fs::read(self.directory.path().join("disk")).unwrap();
        let inline = node.inline.clone().unwrap_or_default();
        let length = usize::try_from(node.size_bytes).unwrap() - inline.len();
        let start = if length == 0 { 0 } else { node.pointer as usize * 4096 };
        [&disk[start..start + length], &inline].concat()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn layers_add_up_to_what_the_model_says(
        layers in proptest::collection::vec(proptest::collection::vec(step(), 0..12), 1..5)
    ) {
        let mut model = Model::default();
        let numbered = || (0_u8..).zip(&layers);
        let fits = numbered().all(|(number, steps)| model.apply(number, steps).is_some());
        let disk = Disk::try_of(numbered().map(|(number, steps)| archive(number, steps)).collect());
        prop_assert_eq!(disk.is_ok(), fits);
        let Ok(disk) = disk else { return Ok(()) };
        let total = fs::metadata(disk.directory.path().join("disk")).unwrap().len();
        let mut nodes = reader::read(&disk.metadata, (total - disk.metadata.len() as u64) / 4096).unwrap();
        nodes.remove(&b""[..]);
        let paths: Vec<_> = nodes.keys().map(|path| String::from_utf8(path.clone()).unwrap()).collect();
        prop_assert_eq!(paths, model.paths.keys().cloned().collect::<Vec<_>>());
        let mut inodes = BTreeMap::new();
        for (node, found) in nodes.values().zip(model.paths.values()) {
            let is_directory = node.mode & 0o170_000 == 0o040_000;
            prop_assert_eq!(is_directory, *found == Found::Directory);
            if let Found::File(file) = found {
                prop_assert_eq!(disk.content(node), model.files[*file].clone());
                prop_assert_eq!(*inodes.entry(*file).or_insert(node.nid), node.nid, "one file, one inode");
                let names = model.paths.values().filter(|other| *other == found).count();
                prop_assert_eq!(node.links as usize, names);
            }
        }
    }
}
