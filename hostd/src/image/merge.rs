//! Merging an image's layers into one tree (OCI image-spec 1.1, layer.md, "Applying Changesets").
//!
//! Whiteouts hide what *lower* layers have, wherever they stand in their own layer's archive; so each layer is gone
//! through twice. Paths are resolved inside the tree alone: links in a parent's place are followed as a container
//! would, and `..` stops at the root.

use std::collections::VecDeque;

use super::layer::{BLOCK_BYTES, Entry, EntryKind, LayerIndex};
use super::tree::{Inode, InodeKind, InodeNumber, ROOT, TailPlace, Tree};

/// As many symbolic links as Linux follows in one path.
const MAX_LINKS_FOLLOWED: usize = 40;

/// Why a layer does not fit onto those below it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {path:?}: {problem}")]
pub(crate) struct MergeError {
    path: String,
    problem: &'static str,
}

/// Where a layer's files are on the image's disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerPlace {
    /// The layer's number in the image, from 0.
    pub(crate) layer: usize,
    /// Its data begins so many blocks after where the disk's data begins.
    pub(crate) base_block: u64,
}

/// Adds the next layer.
pub(crate) fn apply(tree: &mut Tree, layer: LayerIndex, place: LayerPlace) -> Result<(), MergeError> {
    for entry in &layer.entries {
        hide(tree, entry);
    }
    for entry in layer.entries {
        let path = entry.path.clone();
        add(tree, entry, place).map_err(|problem| MergeError { path: lossy(&path), problem })?;
    }
    Ok(())
}

/// The directory at a path of the whole image, links on the way followed as a container would.
pub(crate) fn directory_at(tree: &mut Tree, path: &[u8]) -> Option<InodeNumber> {
    find_directory(tree, path)
}

fn hide(tree: &mut Tree, entry: &Entry) {
    let lower = match entry.kind {
        EntryKind::Whiteout => find_parent(tree, &entry.path),
        EntryKind::Opaque => find_directory(tree, &entry.path).map(|directory| (directory, &b""[..])),
        _ => return,
    };
    match lower {
        None => {}
        Some((directory, b"")) => tree.clear(directory),
        Some((directory, name)) => tree.remove(directory, name),
    }
}

fn add(tree: &mut Tree, entry: Entry, layer: LayerPlace) -> Result<(), &'static str> {
    let kind = match entry.kind {
        EntryKind::Whiteout | EntryKind::Opaque => return Ok(()),
        EntryKind::HardLink { target } => return add_hard_link(tree, &entry.path, &target),
        EntryKind::File { size_bytes, place } => InodeKind::File {
            size_bytes,
            first_block: layer.base_block + place.data_offset_bytes / BLOCK_BYTES,
            tail: place.tail_offset_bytes.map(|offset_bytes| TailPlace { layer: layer.layer, offset_bytes }),
        },
        EntryKind::Directory => return add_directory(tree, entry),
        EntryKind::Symlink { target } => InodeKind::Symlink { target },
        EntryKind::CharacterDevice { major, minor } => InodeKind::CharacterDevice { major, minor },
        EntryKind::BlockDevice { major, minor } => InodeKind::BlockDevice { major, minor },
        EntryKind::Fifo => InodeKind::Fifo,
    };
    let (directory, name) = make_parent(tree, &entry.path)?;
    tree.insert(directory, name, Inode::new(kind, entry.attributes));
    Ok(())
}

/// A directory on a directory keeps the content and takes the new attributes.
fn add_directory(tree: &mut Tree, entry: Entry) -> Result<(), &'static str> {
    let (directory, name) = make_parent(tree, &entry.path)?;
    let existing = if name.is_empty() { Some(ROOT) } else { tree.child(directory, name) };
    let number = match existing {
        Some(number) if tree.children(number).is_some() => number,
        _ => tree.insert(directory, name, Inode::directory()),
    };
    tree.inode_mut(number).attributes = entry.attributes;
    Ok(())
}

fn add_hard_link(tree: &mut Tree, path: &[u8], target: &[u8]) -> Result<(), &'static str> {
    let (directory, name) = find_parent(tree, target).ok_or("a hard link to a path that does not exist")?;
    let number = tree.child(directory, name).ok_or("a hard link to a path that does not exist")?;
    if tree.children(number).is_some() {
        return Err("a hard link to a directory");
    }
    let (directory, name) = make_parent(tree, path)?;
    // Making parents may have replaced the target itself: a link below its own target.
    if tree.inode(number).names == 0 {
        return Err("a hard link below its own target");
    }
    if tree.child(directory, name) != Some(number) {
        tree.link(directory, name, number);
    }
    Ok(())
}

/// What a walk does where the path leads to no directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fail,
    Create,
}

fn find_directory(tree: &mut Tree, path: &[u8]) -> Option<InodeNumber> {
    walk(tree, path, Missing::Fail).ok()
}

/// The directory that a path's last component is or would be in, and that component: empty for the root.
fn find_parent<'a>(tree: &mut Tree, path: &'a [u8]) -> Option<(InodeNumber, &'a [u8])> {
    let (parent, name) = split(path);
    Some((find_directory(tree, parent)?, name))
}

fn make_parent<'a>(tree: &mut Tree, path: &'a [u8]) -> Result<(InodeNumber, &'a [u8]), &'static str> {
    let (parent, name) = split(path);
    Ok((walk(tree, parent, Missing::Create)?, name))
}

/// Resolves a path to a directory, following symbolic links.
fn walk(tree: &mut Tree, path: &[u8], missing: Missing) -> Result<InodeNumber, &'static str> {
    let mut pending: VecDeque<Vec<u8>> = components(path).collect();
    let mut ancestors = vec![ROOT];
    let mut links_followed = 0;
    while let Some(name) = pending.pop_front() {
        if name == b".." {
            ancestors.truncate(1.max(ancestors.len() - 1));
            continue;
        }
        let here = *ancestors.last().expect("the root is never taken away");
        let child = tree.child(here, &name);
        match child.map(|child| &tree.inode(child).kind) {
            Some(InodeKind::Directory(_)) => ancestors.extend(child),
            Some(InodeKind::Symlink { target }) => {
                links_followed += 1;
                if links_followed > MAX_LINKS_FOLLOWED {
                    return Err("its parent is a loop of symbolic links");
                }
                if target.starts_with(b"/") {
                    ancestors.truncate(1);
                }
                for component in components(target).rev() {
                    pending.push_front(component);
                }
            }
            _ if missing == Missing::Fail => return Err("its parent does not exist"),
            // As an overlay mount would have it: a directory of an upper layer covers a lower file.
            _ => ancestors.push(tree.insert(here, &name, Inode::directory())),
        }
    }
    Ok(*ancestors.last().expect("the root is never taken away"))
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::super::layer::{Attributes, FilePlace};
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.into(), kind, attributes: Attributes { mode: 0o700, ..Attributes::default() } }
    }

    /// A file whose place tells its layer apart.
    fn file(path: &str) -> Entry {
        entry(path, EntryKind::File { size_bytes: 1, place: FilePlace::default() })
    }

    fn directory(path: &str) -> Entry {
        entry(path, EntryKind::Directory)
    }

    fn symlink(path: &str, target: &str) -> Entry {
        entry(path, EntryKind::Symlink { target: target.into() })
    }

    fn hard_link(path: &str, target: &str) -> Entry {
        entry(path, EntryKind::HardLink { target: target.into() })
    }

    fn try_merge(layers: Vec<Vec<Entry>>) -> Result<Tree, MergeError> {
        let mut tree = Tree::new();
        for (number, entries) in layers.into_iter().enumerate() {
            let place = LayerPlace { layer: number, base_block: number as u64 };
            apply(&mut tree, LayerIndex::of(entries), place)?;
        }
        Ok(tree)
    }

    /// The merged paths in order, a file with the number of its layer.
    fn merge(layers: Vec<Vec<Entry>>) -> String {
        let tree = try_merge(layers).unwrap();
        let mut lines = Vec::new();
        list(&tree, ROOT, "", &mut lines);
        lines.join(" ")
    }

    fn list(tree: &Tree, number: InodeNumber, path: &str, lines: &mut Vec<String>) {
        match &tree.inode(number).kind {
            InodeKind::File { first_block, .. } => lines.push(format!("{path}:{first_block}")),
            InodeKind::Symlink { target } => lines.push(format!("{path}->{}", lossy(target))),
            InodeKind::Directory(children) => {
                lines.push(format!("{path}/"));
                for (name, child) in children {
                    list(tree, *child, &format!("{path}/{}", lossy(name)), lines);
                }
            }
            other => lines.push(format!("{path}:{other:?}")),
        }
    }

    #[test]
    fn upper_layers_win_and_directories_merge() {
        let merged =
            merge(vec![vec![directory("d"), file("d/a"), file("d/b")], vec![file("d/b"), file("d/c")]]);
        assert_eq!(merged, "/ /d/ /d/a:0 /d/b:1 /d/c:1");
        assert_eq!(merge(vec![vec![directory("d"), file("d/a")], vec![file("d")]]), "/ /d:1");
        assert_eq!(merge(vec![vec![file("d")], vec![file("d/a")]]), "/ /d/ /d/a:1");
    }

    #[test]
    fn whiteouts_hide_lower_layers_only() {
        let lower = || vec![file("d/a"), file("d/b"), file("e/f")];
        let whiteout = |path| entry(path, EntryKind::Whiteout);
        assert_eq!(merge(vec![lower(), vec![whiteout("d/a"), whiteout("e")]]), "/ /d/ /d/b:0");
        // Even when the marker comes after what its own layer brings.
        assert_eq!(
            merge(vec![lower(), vec![file("d/a"), whiteout("d/a")]]),
            "/ /d/ /d/a:1 /d/b:0 /e/ /e/f:0"
        );
        let opaque = || entry("d", EntryKind::Opaque);
        assert_eq!(merge(vec![lower(), vec![file("d/c"), opaque()]]), "/ /d/ /d/c:1 /e/ /e/f:0");
        let everything = entry("", EntryKind::Opaque);
        assert_eq!(merge(vec![lower(), vec![everything, file("x")]]), "/ /x:1");
        assert_eq!(merge(vec![vec![whiteout("no/such"), opaque()]]), "/");
    }

    #[test]
    fn implied_parents_follow_links_inside_the_tree() {
        let lower = || vec![directory("usr/lib"), symlink("lib", "usr/lib")];
        assert_eq!(merge(vec![lower(), vec![file("lib/x")]]), "/ /lib->usr/lib /usr/ /usr/lib/ /usr/lib/x:1");
        // A directory that is spelled out replaces the link.
        assert_eq!(
            merge(vec![lower(), vec![directory("lib"), file("lib/x")]]),
            "/ /lib/ /lib/x:1 /usr/ /usr/lib/"
        );
        let out = vec![symlink("a", "../../../../b"), file("a/x")];
        assert_eq!(merge(vec![out]), "/ /a->../../../../b /b/ /b/x:0");
        let absolute = vec![symlink("d/a", "/b"), file("d/a/x")];
        assert_eq!(merge(vec![absolute]), "/ /b/ /b/x:0 /d/ /d/a->/b");
    }

    #[test]
    fn hard_links_share_an_inode_across_layers() {
        let tree = try_merge(vec![vec![file("a")], vec![hard_link("d/b", "a")], vec![file("a")]]).unwrap();
        let directory = tree.child(ROOT, b"d").unwrap();
        let linked = tree.inode(tree.child(directory, b"b").unwrap());
        assert!(matches!(linked.kind, InodeKind::File { first_block: 0, .. }));
        assert_eq!(linked.names, 1, "the other name was replaced");
        let tree = try_merge(vec![vec![file("a"), hard_link("b", "a"), hard_link("a", "b")]]).unwrap();
        assert_eq!(tree.inode(tree.child(ROOT, b"a").unwrap()).names, 2);
    }

    #[test]
    fn layers_that_cannot_be_applied_are_refused() {
        for (entries, problem) in [
            (vec![hard_link("b", "a")], "does not exist"),
            (vec![directory("a"), hard_link("b", "a")], "to a directory"),
            (vec![hard_link("b", "")], "does not exist"),
            (vec![file("a"), hard_link("a/b", "a")], "below its own target"),
            (vec![symlink("a", "b"), symlink("b", "a"), file("a/x")], "loop"),
        ] {
            let error = try_merge(vec![entries]).unwrap_err();
            assert!(error.problem.contains(problem), "{error}");
        }
    }

    #[test]
    fn the_roots_attributes_come_from_its_entry() {
        assert_eq!(try_merge(vec![vec![directory("")]]).unwrap().inode(ROOT).attributes.mode, 0o700);
        assert_eq!(try_merge(vec![vec![]]).unwrap().inode(ROOT).attributes.mode, 0o755);
    }
}
