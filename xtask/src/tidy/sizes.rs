//! A file is one idea, and one idea fits in a bounded number of lines. Inline tests are not counted.
//!
//! The length of functions is clippy's `too_many_lines`.

use super::Finding;
use super::tree::Tree;

const MAXIMUM_LINES: usize = 500;

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.rust() {
        let lines = file.product_lines().count();
        if lines > MAXIMUM_LINES {
            let message = format!("{lines} lines without its tests; {MAXIMUM_LINES} is where a file is two");
            findings.push(file.finding(0, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_found_and_long_tests_are_not() {
        let long = "fn a() {}\n".repeat(MAXIMUM_LINES + 1);
        let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let tree = Tree::of(&[("long.rs", &long), ("tested.rs", &tested)]);
        let mut findings = Vec::new();
        check(&tree, &mut findings);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path.to_str(), Some("long.rs"));
    }
}
