//! The file that keeps what the guest's console printed: bounded, the newest bytes win.
//!
//! Bytes are appended until the file would outgrow its limit; then its newest half moves to its beginning, and the
//! file ends there. Its end is its newest bytes at any time, and printing a byte costs at most writing it twice. It is
//! opened once: in the jail there is no second time.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The log of one machine, written by whichever device the guest prints to.
#[derive(Debug)]
pub(crate) struct ConsoleLog {
    file: File,
    limit_bytes: u64,
    printed_bytes: AtomicU64,
    /// The file's length.
    kept_bytes: Mutex<u64>,
}

impl ConsoleLog {
    /// Begins an empty log at `path`.
    ///
    /// # Errors
    /// The file cannot be created.
    pub(crate) fn create(path: &Path, limit_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file, limit_bytes, printed_bytes: AtomicU64::new(0), kept_bytes: Mutex::new(0) })
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
        let mut kept_bytes = self.kept_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept_bytes + text.len() as u64 > self.limit_bytes
            && let Ok(rest) = self.shorten(*kept_bytes, text.len() as u64)
        {
            *kept_bytes = rest;
        }
        let room = self.limit_bytes.saturating_sub(*kept_bytes);
        let kept = &text[text.len().saturating_sub(usize::try_from(room).unwrap_or(usize::MAX))..];
        if self.file.write_all_at(kept, *kept_bytes).is_ok() {
            *kept_bytes += kept.len() as u64;
        }
    }

    /// Leaves the newest of the file's bytes, half of the limit at most, so that `incoming` bytes fit.
    fn shorten(&self, present: u64, incoming: u64) -> io::Result<u64> {
        let kept = (self.limit_bytes / 2).min(self.limit_bytes.saturating_sub(incoming)).min(present);
        let mut newest = vec![0; usize::try_from(kept).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut newest, present - kept)?;
        self.file.write_all_at(&newest, 0)?;
        self.file.set_len(kept)?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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
