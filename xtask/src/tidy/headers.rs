//! Every Rust file opens by saying what it is for.

use super::Finding;
use super::tree::Tree;

/// Shorter than this says nothing.
const MINIMUM_CHARACTERS: usize = 12;

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.rust() {
        let header: usize = file
            .text
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(|line| line.trim().chars().count())
            .sum();
        if header < MINIMUM_CHARACTERS {
            findings
                .push(file.finding(1, "does not open with a `//!` header that says what the file is for"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_an_empty_header_are_found() {
        let tree = Tree::of(&[
            ("good.rs", "//! Says what this file is for.\n\nfn a() {}\n"),
            ("none.rs", "fn a() {}\n"),
            ("stub.rs", "//! stub\n"),
            ("notes.md", "# Not Rust\n"),
        ]);
        let mut findings = Vec::new();
        check(&tree, &mut findings);
        let found: Vec<_> = findings.iter().map(|finding| finding.path.to_str().unwrap()).collect();
        assert_eq!(found, ["none.rs", "stub.rs"]);
    }
}
