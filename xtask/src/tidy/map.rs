//! ARCHITECTURE.md names every top-level folder, and no folder that is nowhere: a map that is wrong is worse
//! than none.

use std::collections::BTreeSet;
use std::path::Path;

use super::Finding;
use super::tree::{SourceFile, Tree};

const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(map) = tree.get(MAP) else {
        let message = "is missing: the map of the top-level folders".to_owned();
        findings.push(Finding { path: MAP.into(), line: 0, message });
        return;
    };
    let present = folders(tree);
    let mut named = BTreeSet::new();
    for (line, text) in map.lines() {
        for folder in named_folders(text) {
            if !exists(tree, folder) {
                findings.push(map.finding(line, format!("names `{folder}/`, which does not exist")));
            }
            named.insert(folder);
        }
    }
    for folder in present.difference(&named) {
        findings.push(map.finding(0, format!("does not name the folder `{folder}/`")));
    }
}

/// Whether any folder of the tree has this name.
fn exists(tree: &Tree, folder: &str) -> bool {
    let directories = tree.files.iter().filter_map(|file| file.path.parent());
    directories.flat_map(Path::iter).any(|part| part == folder)
}

/// The visible top-level folders.
fn folders(tree: &Tree) -> BTreeSet<&str> {
    let folder = |file: &'_ SourceFile| first_component(&file.path).map(str::len);
    let named = tree.files.iter().filter_map(|file| {
        let length = folder(file)?;
        file.path.to_str().map(|path| &path[..length])
    });
    named.filter(|name| !name.starts_with('.')).collect()
}

fn first_component(path: &Path) -> Option<&str> {
    path.to_str()?.split_once('/').map(|(first, _)| first)
}

/// The words of a line that are written as a folder: `` `name/` ``.
fn named_folders(line: &str) -> impl Iterator<Item = &str> {
    let is_name = |name: &&str| {
        !name.is_empty() && name.chars().all(|character| character.is_ascii_lowercase() || character == '-')
    };
    line.split('`').skip(1).step_by(2).filter_map(|code| code.strip_suffix('/')).filter(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(map: &str) -> Vec<String> {
        let tree =
            Tree::of(&[(MAP, map), ("vmm/src/lib.rs", ""), ("guest-agent/src/main.rs", ""), (".ci/run", "")]);
        let mut findings = Vec::new();
        check(&tree, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_true_map_has_no_findings() {
        assert!(found("`vmm/` and `guest-agent/` with its `src/`; `vmm/src/lib.rs` is free\n").is_empty());
    }

    #[test]
    fn a_forgotten_and_an_invented_folder_are_found() {
        let expected = [
            "ARCHITECTURE.md:1: names `cloud/`, which does not exist",
            "ARCHITECTURE.md: does not name the folder `guest-agent/`",
        ];
        assert_eq!(found("`vmm/` and `cloud/`\n"), expected);
    }

    #[test]
    fn no_map_is_a_finding() {
        let mut findings = Vec::new();
        check(&Tree::of(&[("vmm/src/lib.rs", "")]), &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
