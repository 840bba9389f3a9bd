//! The text files of the checkout, read once for all rules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Finding;

/// Kinds of files that people write. Everything else (lock files, pictures) is no concern of tidy's.
const EXTENSIONS: [&str; 9] = ["rs", "md", "toml", "proto", "config", "patch", "sh", "json", "yml"];
/// Where products and other people's files are.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// All files, by path relative to the root, sorted.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<SourceFile>,
}

/// One file.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Tree {
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, Path::new(""))?;
        tree.files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, below: &Path) -> anyhow::Result<()> {
        let directory = root.join(below);
        let entries =
            fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.iter().any(|name| entry.file_name() == *name) {
                self.walk(root, &path)?;
            } else if kind.is_file() && is_source(&path) {
                let text = fs::read_to_string(entry.path())
                    .with_context(|| format!("cannot read {} as text", path.display()))?;
                self.files.push(SourceFile { path, text });
            }
        }
        Ok(())
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.has_extension("rs"))
    }

    pub(super) fn get(&self, path: impl AsRef<Path>) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path.as_ref())
    }

    /// A tree for a rule's own tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| SourceFile { path: path.into(), text: (*text).to_owned() };
        Self { files: files.iter().map(file).collect() }
    }
}

/// Files without an extension are scripts (`.ci/run`) only where we put scripts.
fn is_source(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => EXTENSIONS.iter().any(|known| extension == *known),
        None => path.starts_with(".ci"),
    }
}

impl SourceFile {
    pub(super) fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }

    /// The lines with their numbers from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The lines before the inline tests, which rustfmt'd files keep at their end.
    pub(super) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().take_while(|(_, line)| *line != "#[cfg(test)]")
    }

    pub(super) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }
}

/// Whether `line` is a comment and nothing else.
pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_unknown_kinds_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        for path in ["src/a.rs", "target/b.rs", "c.png", ".ci/run", "NOTICE"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        let tree = Tree::read(root.path()).unwrap();
        let paths: Vec<_> = tree.files.iter().map(|file| file.path.to_str().unwrap()).collect();
        assert_eq!(paths, [".ci/run", "src/a.rs"]);
    }

    #[test]
    fn inline_tests_are_not_product_lines() {
        let tree = Tree::of(&[("a.rs", "fn a() {}\n\n#[cfg(test)]\nmod tests {}\n")]);
        assert_eq!(tree.files[0].product_lines().count(), 2);
    }
}
