//! Appending to a container's log, and finding out how far it got before a crash.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use jiff::Timestamp;
use tokio::sync::watch;

use super::OutputStream;
use super::record::{RecordLine, parse};

/// A line longer than this is split into several records, as Docker does.
const MAX_RECORD_BYTES: usize = 16 << 10;

/// How many bytes of each stream of the current run are in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct StreamOffsets {
    stdout: u64,
    stderr: u64,
}

impl StreamOffsets {
    fn of(self, stream: OutputStream) -> u64 {
        match stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        }
    }

    fn set(&mut self, stream: OutputStream, offset: u64) {
        match stream {
            OutputStream::Stdout => self.stdout = offset,
            OutputStream::Stderr => self.stderr = offset,
        }
    }
}

/// The one writer of a container's log during a run.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    length: u64,
    offsets: StreamOffsets,
    /// Tells followers how long the file is.
    grown: watch::Sender<u64>,
}

impl LogWriter {
    /// Opens the log for a run that began when the file had `run_start` bytes: cuts off a record that a crash left
    /// incomplete and finds how far each stream got.
    pub(crate) fn open(path: &Path, run_start: u64, grown: watch::Sender<u64>) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let start = run_start.min(file.metadata()?.len());
        let (length, offsets) = scan(&mut file, start)?;
        file.set_len(length)?;
        grown.send_replace(length);
        Ok(Self { file, length, offsets, grown })
    }

    /// The file's length, which is where a run that starts now begins.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes of that stream of this run are in the file.
    pub(crate) fn offset(&self, stream: OutputStream) -> u64 {
        self.offsets.of(stream)
    }

    /// Appends the complete lines of `pending`, which starts at the stream's offset; with `Rest::Flush` also what is
    /// left without a newline. Returns how many bytes were taken: they are on the host for good.
    pub(crate) fn append(&mut self, stream: OutputStream, pending: &[u8], rest: Rest) -> io::Result<usize> {
        let time = Timestamp::now();
        let mut lines = Vec::with_capacity(pending.len() + 128);
        let mut offset = self.offsets.of(stream);
        let mut taken = 0;
        while let Some(length) = next_record(&pending[taken..], rest) {
            let log = String::from_utf8_lossy(&pending[taken..taken + length]);
            taken += length;
            offset += length as u64;
            write_line(&mut lines, log, stream, time, offset);
        }
        self.file.write_all(&lines)?;
        self.length += lines.len() as u64;
        self.offsets.set(stream, offset);
        self.grown.send_replace(self.length);
        Ok(taken)
    }
}

/// What to do with output that does not end a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Keep,
    Flush,
}

/// How many bytes the next record takes of what is pending.
fn next_record(pending: &[u8], rest: Rest) -> Option<usize> {
    let window = &pending[..pending.len().min(MAX_RECORD_BYTES)];
    match window.iter().position(|byte| *byte == b'\n') {
        Some(newline) => Some(newline + 1),
        None if window.len() == MAX_RECORD_BYTES => Some(whole_characters(window)),
        None if rest == Rest::Flush && !window.is_empty() => Some(window.len()),
        None => None,
    }
}

/// The length of `window` without a UTF-8 character that its end cuts in two.
fn whole_characters(window: &[u8]) -> usize {
    match std::str::from_utf8(window) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => window.len(),
    }
}

fn write_line(lines: &mut Vec<u8>, log: Cow<'_, str>, stream: OutputStream, time: Timestamp, offset: u64) {
    let line = RecordLine { log, stream, time, offset };
    serde_json::to_writer(&mut *lines, &line).expect("plain data is always JSON, and a Vec grows as needed");
    lines.push(b'\n');
}

/// The length of the file's whole records, and the offsets that those from `start` on end with.
fn scan(file: &mut File, start: u64) -> io::Result<(u64, StreamOffsets)> {
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let mut length = start;
    let mut offsets = StreamOffsets::default();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        let Some((record, offset)) = parse(&line) else { break };
        offsets.set(record.stream, offset);
        length += line.len() as u64;
        line.clear();
    }
    Ok((length, offsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(path: &Path) -> LogWriter {
        LogWriter::open(path, 0, watch::Sender::new(0)).unwrap()
    }

    #[test]
    fn only_whole_lines_are_taken_until_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = writer(&directory.path().join("log"));
        assert_eq!(log.append(OutputStream::Stdout, b"one\ntwo\nthr", Rest::Keep).unwrap(), 8);
        assert_eq!(log.append(OutputStream::Stdout, b"three", Rest::Flush).unwrap(), 5);
        assert_eq!(log.offsets, StreamOffsets { stdout: 13, stderr: 0 });
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = writer(&directory.path().join("log"));
        let line = "é".repeat(MAX_RECORD_BYTES / 2 + 1);
        let shifted = format!("x{line}");
        let taken = log.append(OutputStream::Stdout, shifted.as_bytes(), Rest::Keep).unwrap();
        assert_eq!(taken, MAX_RECORD_BYTES - 1);
    }

    #[test]
    fn a_record_that_a_crash_cut_short_is_cut_off_and_asked_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = writer(&path);
        log.append(OutputStream::Stdout, b"kept\n", Rest::Keep).unwrap();
        log.append(OutputStream::Stderr, b"cut\n", Rest::Keep).unwrap();
        let whole = log.length();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(whole - 3).unwrap();
        let reopened = writer(&path);
        assert_eq!(reopened.offsets, StreamOffsets { stdout: 5, stderr: 0 });
        assert_eq!(reopened.length(), path.metadata().unwrap().len());
    }

    #[test]
    fn offsets_count_from_the_start_of_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut first_run = writer(&path);
        first_run.append(OutputStream::Stdout, b"first run\n", Rest::Keep).unwrap();
        let start = first_run.length();
        let second_run = LogWriter::open(&path, start, watch::Sender::new(0)).unwrap();
        assert_eq!(second_run.offsets, StreamOffsets::default());
    }
}
