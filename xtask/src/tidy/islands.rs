//! Unsafe code lives on islands: files that say so at their top, and whose list is known here.
//!
//! A new island is a decision, so it takes a line in [`ISLANDS`]. That each block argues for itself is
//! clippy's `undocumented_unsafe_blocks`.

use std::path::Path;

use super::Finding;
use super::tree::Tree;

/// The files that may contain `unsafe`, each with what it wraps.
const ISLANDS: &[(&str, &str)] = &[
    ("guest-agent/src/bpf.rs", "bpf(2) has no safe wrapper"),
    ("guest-agent/src/sys.rs", "system calls that have no safe wrapper"),
    ("vmm/src/kvm/memory_slots.rs", "KVM's slots of guest memory"),
    ("vmm/src/heap.rs", "a parameter of the allocator"),
    ("vmm/src/kvm/mod.rs", "KVM's ioctls and the structures shared with it"),
    ("vmm/src/kvm/state.rs", "the ioctl that reads as much as the host's features say"),
    ("vmm/src/memory.rs", "mappings of guest memory"),
    ("vmm/src/reclaim.rs", "guest memory that goes back to the host"),
    ("vmm/src/snapshot/lazy_pages.rs", "memory that the kernel moves away"),
    ("vmm/src/snapshot/memory_map.rs", "mappings of a snapshot's files at chosen addresses"),
    ("vmm/src/snapshot/userfault.rs", "the ioctls of userfaultfd"),
    ("vmm/src/stub_guest/program.rs", "guests written in assembly, for the tests"),
    ("vmm/src/tcg/child.rs", "a child process that the kernel ends with us"),
    ("vmm/src/tcg/time_stamp.rs", "the instruction that reads the time stamp counter"),
    ("vmm/src/virtio/block/ring.rs", "transfers that the kernel goes on with after a call"),
    ("vmm/src/virtio/guest_io.rs", "system calls straight into guest memory"),
    ("vmm/src/virtio/net/tap.rs", "the ioctls of TAP interfaces"),
    ("vmm/tests/guest/init.rs", "system calls without crates, in the tests' guest"),
];

/// What an island has at its top, and nothing else has, before the lint's name.
const MARK: &str = "#![expect(";
const LINT: &str = "unsafe_code";
const KEYWORD: &str = "unsafe";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    check_against(ISLANDS, tree, findings);
}

fn check_against(islands: &[(&str, &str)], tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.rust() {
        let known = islands.iter().any(|(path, _)| file.path == Path::new(path));
        let marked = is_marked(&file.text);
        let first_use = file.lines().find(|(_, line)| uses_unsafe(line)).map(|(number, _)| number);
        let problem = match (first_use, known, marked) {
            (Some(line), false, _) => (line, "unsafe code outside the known islands"),
            (Some(line), true, false) => {
                (line, "an island says so at its top with `#![expect(unsafe_code, reason)]`")
            }
            (None, true, _) => (0, "is listed as an island but has no unsafe code"),
            _ => continue,
        };
        findings.push(file.finding(problem.0, problem.1));
    }
    for (path, _) in islands {
        if tree.get(path).is_none() {
            let message = "is listed as an island but does not exist".to_owned();
            findings.push(Finding { path: path.into(), line: 0, message });
        }
    }
}

/// Whether the file expects unsafe code, on one line or on several.
fn is_marked(text: &str) -> bool {
    text.split(MARK).skip(1).any(|rest| rest.trim_start().starts_with(LINT))
}

/// `unsafe` as a keyword: before a block, an impl, a function or an extern, and in attributes of edition 2024.
fn uses_unsafe(line: &str) -> bool {
    let code: String = outside_strings(line).collect();
    let code = code.split("//").next().unwrap_or_default();
    let is_separator = |character: char| !character.is_alphanumeric() && character != '_';
    code.split(is_separator).any(|word| word == KEYWORD)
}

/// The line without what stands between quotes; strings of several lines are rare enough to be renamed.
fn outside_strings(line: &str) -> impl Iterator<Item = char> {
    let mut inside = false;
    let mut escaped = false;
    line.chars().filter(move |character| {
        let is_quote = *character == '"' && !escaped;
        escaped = *character == '\\' && !escaped;
        inside ^= is_quote;
        !inside && !is_quote
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(islands: &[(&str, &str)], files: &[(&str, &str)]) -> Vec<String> {
        let mut findings = Vec::new();
        check_against(islands, &Tree::of(files), &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_island_is_known_and_marked() {
        let block = format!("let x = {KEYWORD} {{ f() }};\n");
        let marked = format!("{MARK}\n    {LINT},\n    reason = \"calls f\"\n)]\n{block}");
        let island = [("sys.rs", "calls f")];
        assert!(found(&island, &[("sys.rs", &marked)]).is_empty());
        assert_eq!(found(&island, &[("sys.rs", &block)]).len(), 1);
        assert_eq!(found(&[], &[("sys.rs", &marked)]), ["sys.rs:5: unsafe code outside the known islands"]);
    }

    #[test]
    fn an_island_that_sank_is_found() {
        let island = [("sys.rs", "calls f")];
        assert_eq!(found(&island, &[]), ["sys.rs: is listed as an island but does not exist"]);
        assert_eq!(found(&island, &[("sys.rs", "fn f() {}\n")]).len(), 1);
    }

    #[test]
    fn the_word_alone_is_not_the_keyword() {
        for line in
            ["// unsafe is a word", "let unsafe_count = 1;", "#![deny(unsafe_code)]", "f(); // unsafe"]
        {
            assert!(!uses_unsafe(line), "{line}");
        }
        for line in ["unsafe impl Send for A {}", "    unsafe { f() }", "#[unsafe(no_mangle)]"] {
            assert!(uses_unsafe(line), "{line}");
        }
    }
}
