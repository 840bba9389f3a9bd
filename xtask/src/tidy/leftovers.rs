//! Nothing unfinished and nothing of the author's own machine is left in the tree.

use super::Finding;
use super::tree::Tree;

/// Text that does not belong, and what to say of it. Put together here, so that this file does not find itself.
const LEFTOVERS: [(&str, &str); 8] = [
    (concat!("todo", "!("), "unfinished code"),
    (concat!("unimplemented", "!("), "unfinished code"),
    (concat!("FIX", "ME"), "a note to oneself: do it, or open an issue"),
    (concat!("XX", "X:"), "a note to oneself: do it, or open an issue"),
    (concat!("TO", "DO"), "a note to oneself: do it, or open an issue"),
    (concat!("/wo", "rk/"), "a path of somebody's own machine"),
    (concat!("/tmp/br", "ief"), "a path of somebody's own machine"),
    (concat!("/tmp/w", "t/"), "a path of somebody's own machine"),
];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        for (line, text) in file.lines() {
            for (leftover, what) in LEFTOVERS {
                if text.contains(leftover) {
                    findings.push(file.finding(line, format!("`{leftover}`: {what}")));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_and_private_paths_are_found_in_every_kind_of_file() {
        let tree = Tree::of(&[
            ("a.rs", concat!("fn a() { todo", "!() }\n")),
            ("b.md", concat!("It is in /wo", "rk/main.\n")),
            ("c.toml", "name = \"fine\"\n"),
        ]);
        let mut findings = Vec::new();
        check(&tree, &mut findings);
        let found: Vec<_> = findings.iter().map(|finding| finding.path.to_str().unwrap()).collect();
        assert_eq!(found, ["a.rs", "b.md"]);
    }
}
