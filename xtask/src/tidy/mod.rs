//! `cargo xtask tidy`: the rules of this code base that neither rustfmt nor clippy knows.
//!
//! Each rule is a function from the tree to findings, listed once in [`RULES`]. The rules read text, not
//! syntax trees: they lean on rustfmt's layout, and are simple enough to argue with. Length of functions,
//! explained unsafe blocks and bare unwraps are clippy's business (see the lint table in `Cargo.toml`).

mod tree;

mod headers;
mod islands;
mod leftovers;
mod map;
mod modules;
mod names;
mod sizes;
mod words;

use std::fmt;
use std::path::PathBuf;

use anyhow::bail;

use crate::progress;
use crate::workspace::Workspace;

use tree::Tree;

type Rule = fn(&Tree, &mut Vec<Finding>);

const RULES: [Rule; 8] = [
    headers::check,
    islands::check,
    leftovers::check,
    map::check,
    modules::check,
    names::check,
    sizes::check,
    words::check,
];

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: PathBuf,
    /// From 1; 0 speaks of the whole file.
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let tree = Tree::read(&workspace.path("."))?;
    let findings = findings(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy has {} findings", findings.len());
    }
    progress::note(format_args!("{} files, nothing found", tree.files.len()));
    Ok(())
}

fn findings(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES {
        rule(tree, &mut findings);
    }
    findings.sort();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_where_an_editor_can_jump_to() {
        let mut finding = Finding { path: "vmm/src/lib.rs".into(), line: 7, message: "long".to_owned() };
        assert_eq!(finding.to_string(), "vmm/src/lib.rs:7: long");
        finding.line = 0;
        assert_eq!(finding.to_string(), "vmm/src/lib.rs: long");
    }
}
