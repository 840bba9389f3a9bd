//! Every source file is part of its crate, and folders of modules have one shape.
//!
//! A file that no `mod` line names is never compiled: its tests pass by not existing. A module with
//! children is `name/mod.rs`, never `name.rs` beside `name/`; only its long tests may lie there, in `name/tests.rs`.

use std::path::{Path, PathBuf};

use super::Finding;
use super::tree::{SourceFile, Tree};

/// Files that cargo finds by itself.
const ROOTS: [&str; 4] = ["main.rs", "lib.rs", "mod.rs", "build.rs"];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.rust() {
        let folder = file.path.with_extension("");
        if tree.get(folder.join("mod.rs")).is_some() || has_children_beside(tree, &folder) {
            findings.push(file.finding(0, "a module with children is a folder with a mod.rs"));
        } else if is_forgotten(tree, file) {
            findings.push(file.finding(0, "no `mod` line names this file, so it is never compiled"));
        }
    }
}

/// Whether a folder of the module's name holds more than its tests, and is no target of its own.
fn has_children_beside(tree: &Tree, folder: &Path) -> bool {
    let is_tests = |file: &SourceFile| file.path.file_name().is_some_and(|name| name == "tests.rs");
    tree.rust().any(|file| file.path.parent() == Some(folder) && !is_tests(file))
        && tree.get(folder.join("main.rs")).is_none()
}

fn is_forgotten(tree: &Tree, file: &SourceFile) -> bool {
    let name = file.path.file_name().unwrap_or_default();
    if ROOTS.iter().any(|root| name == *root) && !is_child_folder(file) {
        return false;
    }
    let (directory, module) = module_of(&file.path);
    let roots = ["mod.rs", "main.rs", "lib.rs"].map(|root| directory.join(root));
    let beside = directory.with_extension("rs");
    let mut parents = roots.iter().chain([&beside]).filter_map(|path| tree.get(path)).peekable();
    // A directory without a root holds targets of cargo's own finding: tests, examples, benches, binaries.
    parents.peek().is_some() && !parents.any(|parent| declares(parent, &module))
}

fn is_child_folder(file: &SourceFile) -> bool {
    file.path.file_name().is_some_and(|name| name == "mod.rs")
}

/// The directory whose root declares the module, and the module's name.
fn module_of(path: &Path) -> (PathBuf, String) {
    let directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        let parent = directory.parent().unwrap_or(Path::new("")).to_path_buf();
        return (parent, stem(&directory));
    }
    (directory, stem(path))
}

fn declares(parent: &SourceFile, module: &str) -> bool {
    parent.lines().any(|(_, line)| {
        let declaration = line.trim_start();
        let rest = declaration.find("mod ").map(|at| &declaration[at + 4..]);
        let visible = declaration.starts_with("mod ") || declaration.starts_with("pub");
        visible && rest.is_some_and(|rest| rest.strip_prefix(module).is_some_and(|end| end.starts_with(';')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut findings = Vec::new();
        check(&Tree::of(files), &mut findings);
        findings.iter().map(|finding| finding.path.display().to_string()).collect()
    }

    #[test]
    fn files_that_no_root_declares_are_found() {
        let files = [
            ("a/src/lib.rs", "mod one;\npub(crate) mod two;\n"),
            ("a/src/one.rs", ""),
            ("a/src/two/mod.rs", "    mod deep;\n"),
            ("a/src/two/deep.rs", ""),
            ("a/src/two/lost.rs", ""),
            ("a/src/three/mod.rs", ""),
            ("a/src/one_more.rs", ""),
            ("a/tests/free.rs", ""),
            ("a/build.rs", ""),
        ];
        assert_eq!(found(&files), ["a/src/two/lost.rs", "a/src/three/mod.rs", "a/src/one_more.rs"]);
    }

    #[test]
    fn an_end_to_end_test_that_is_not_listed_is_found() {
        let files = [("e2e/main.rs", "mod run;\n"), ("e2e/run.rs", ""), ("e2e/logs.rs", "")];
        assert_eq!(found(&files), ["e2e/logs.rs"]);
    }

    #[test]
    fn one_shape_for_modules_with_children() {
        let files = [("src/lib.rs", "mod a;\n"), ("src/a.rs", "mod b;\n"), ("src/a/b.rs", "")];
        assert_eq!(found(&files), ["src/a.rs"]);
        let files = [("src/lib.rs", "mod a;\n"), ("src/a.rs", "mod tests;\n"), ("src/a/tests.rs", "")];
        assert!(found(&files).is_empty());
        let files = [("src/lib.rs", "mod a;\n"), ("src/a.rs", ""), ("src/a/tests.rs", "")];
        assert_eq!(found(&files), ["src/a/tests.rs"]);
    }
}
