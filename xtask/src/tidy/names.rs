//! No drawers: a file called `utils` is a place where ownership ends.

use super::Finding;
use super::tree::Tree;

/// Words that no file, folder or module is named by.
const DRAWERS: [&str; 10] =
    ["util", "utils", "utility", "utilities", "common", "helper", "helpers", "misc", "manager", "managers"];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.rust() {
        let path = file.path.with_extension("");
        let words = path.iter().filter_map(|part| part.to_str()).flat_map(|part| part.split(['_', '-']));
        for word in words.filter(|word| DRAWERS.contains(word)) {
            findings.push(file.finding(0, format!("`{word}` names a drawer, not a thing")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawers_are_found_in_every_part_of_a_path() {
        let tree = Tree::of(&[
            ("vmm/src/utils.rs", ""),
            ("vmm/src/common/mod.rs", ""),
            ("vmm/src/device_manager.rs", ""),
            ("vmm/src/commonplace.rs", ""),
        ]);
        let mut findings = Vec::new();
        check(&tree, &mut findings);
        assert_eq!(findings.len(), 3);
    }
}
