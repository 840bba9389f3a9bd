//! The output of a long program: all of it in a file, the end of it at hand for when it fails.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::progress;

/// So many last lines are shown.
const SHOWN_LINES: usize = 60;

pub(crate) struct Transcript {
    path: PathBuf,
    file: File,
    last: VecDeque<String>,
}

impl Transcript {
    /// Starts an empty transcript, in place of an older one.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path: path.to_path_buf(), file, last: VecDeque::new() })
    }

    pub(crate) fn add(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.file, "{line}").with_context(|| format!("cannot write {}", self.path.display()))?;
        if self.last.len() == SHOWN_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
        Ok(())
    }

    /// Shows the end, and says where the rest is.
    pub(crate) fn show_end(&self) {
        self.last.iter().for_each(progress::note);
        progress::note(format_args!("all of it is in {}", self.path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_every_line_and_memory_only_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/one.log");
        let mut transcript = Transcript::create(&path).unwrap();
        for number in 0..100 {
            transcript.add(&number.to_string()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 100);
        assert_eq!(transcript.last.len(), SHOWN_LINES);
        assert_eq!(transcript.last.back().map(String::as_str), Some("99"));
    }
}
