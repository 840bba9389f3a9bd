//! The file that keeps what the guest's console printed: bounded, the newest bytes win.
//!
//! Bytes are appended until the file would outgrow its limit; then its newest half moves to a new file that takes
//! its name. A reader thus always finds a whole file, and printing a byte costs at most writing it twice.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The log of one machine, written by whichever device the guest prints to.
#[derive(Debug)]
pub(crate) struct ConsoleLog {
    path: PathBuf,
    limit_bytes: u64,
    printed_bytes: AtomicU64,
    current: Mutex<Current>,
}

/// The file under the log's name, and its size.
#[derive(Debug)]
struct Current {
    file: File,
    bytes: u64,
}

impl ConsoleLog {
    /// Begins an empty log at `path`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub(crate) fn create(path: &Path, limit_bytes: u64) -> io::Result<Self> {
        let current = Mutex::new(Current { file: create(path)?, bytes: 0 });
        Ok(Self { path: path.to_owned(), limit_bytes, printed_bytes: AtomicU64::new(0), current })
    }

    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Everything that was ever printed, kept or not.
    pub(crate) fn printed_bytes(&self) -> u64 {
        self.printed_bytes.load(Ordering::Relaxed)
    }

    /// Adds what the guest printed. A log that cannot be written loses text, and the machine goes on: a full disk
    /// must not stop guests.
    pub(crate) fn append(&self, text: &[u8]) {
        self.printed_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.bytes + text.len() as u64 > self.limit_bytes
            && let Ok(rotated) = self.rotate(&current, text.len() as u64)
        {
            *current = rotated;
        }
        let room = self.limit_bytes.saturating_sub(current.bytes);
        let kept = &text[text.len().saturating_sub(usize::try_from(room).unwrap_or(usize::MAX))..];
        if current.file.write_all(kept).is_ok() {
            current.bytes += kept.len() as u64;
        }
    }

    /// Starts the file anew with the newest bytes of the present one, so that `incoming` bytes fit, half at most.
    fn rotate(&self, current: &Current, incoming: u64) -> io::Result<Current> {
        let kept = (self.limit_bytes / 2).min(self.limit_bytes.saturating_sub(incoming)).min(current.bytes);
        let mut newest = vec![0; usize::try_from(kept).map_err(io::Error::other)?];
        current.file.read_exact_at(&mut newest, current.bytes - kept)?;
        let successor = self.path.with_extension("new");
        let mut file = create(&successor)?;
        file.write_all(&newest)?;
        std::fs::rename(&successor, &self.path)?;
        Ok(Current { file, bytes: kept })
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limit_bytes: u64) -> (tempfile::TempDir, ConsoleLog, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let log = ConsoleLog::create(&path, limit_bytes).unwrap();
        (directory, log, path)
    }

    #[test]
    fn text_below_the_limit_is_kept_whole() {
        let (_directory, log, path) = log(16);
        log.append(b"hello ");
        log.append(b"machine");
        assert_eq!(std::fs::read(&path).unwrap(), b"hello machine");
    }

    #[test]
    fn the_newest_bytes_win_and_the_limit_holds() {
        let (_directory, log, path) = log(100);
        let all: Vec<u8> = (0..10_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        for line in all.chunks(7) {
            log.append(line);
            let kept = std::fs::read(&path).unwrap();
            assert!(kept.len() <= 100);
        }
        let kept = std::fs::read(&path).unwrap();
        assert!(kept.len() >= 50, "half of the limit is always there");
        assert!(all.ends_with(&kept));
        assert_eq!(log.printed_bytes(), all.len() as u64);
    }

    #[test]
    fn one_text_longer_than_the_limit_leaves_its_end() {
        let (_directory, log, path) = log(10);
        log.append(b"0123456789abcdef");
        assert_eq!(std::fs::read(&path).unwrap(), b"6789abcdef");
        log.append(b"XY");
        assert_eq!(std::fs::read(&path).unwrap(), b"bcdefXY");
    }

    #[test]
    fn a_log_without_room_stays_empty() {
        let (_directory, log, path) = log(0);
        log.append(b"lost");
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
