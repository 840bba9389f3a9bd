//! Appending to a container's log, and finding out how far it got before a crash.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::sync::Arc;

use jiff::Timestamp;
use memchr::memchr;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::line::LineForm;
use super::record::{Place, parse};
use super::{LogFiles, OutputStream};

/// A line longer than this is split into several records, as Docker does.
const MAX_RECORD_BYTES: usize = 16 << 10;

/// A run's place in its container's log; kept with the container, for a daemon that takes the run over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunInLog {
    /// The file's length when the run began; where files rotate, that says nothing later.
    pub(crate) start: u64,
    /// Tells it from other runs where files rotate; never 0 there.
    pub(crate) id: u64,
}

/// How many bytes of each stream of the current run are in the log.
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
    files: Arc<LogFiles>,
    run: RunInLog,
    /// What stands beside each record.
    attributes: BTreeMap<String, String>,
    file: File,
    length: u64,
    offsets: StreamOffsets,
    /// Tells followers how long the file is.
    grown: watch::Sender<u64>,
}

impl LogWriter {
    /// Opens the log for a run that begins now, or for `run`, which began before: cuts off a record that a crash left
    /// incomplete and finds how far each stream got.
    pub(crate) fn open(
        files: Arc<LogFiles>,
        run: Option<RunInLog>,
        attributes: BTreeMap<String, String>,
        grown: watch::Sender<u64>,
    ) -> io::Result<Self> {
        let mut file = files.open_for_writing()?;
        let length = file.metadata()?.len();
        let rotates = files.rotation().is_some();
        let fresh = || RunInLog { start: length, id: if rotates { rand::random::<u64>().max(1) } else { 0 } };
        let mut run = run.unwrap_or_else(fresh);
        run.start = if rotates { 0 } else { run.start.min(length) };
        let scanned = scan(&mut file, run)?;
        file.set_len(scanned.length)?;
        let offsets = if rotates { scanned.found.or_earlier(&files, run)? } else { scanned.found.offsets() };
        grown.send_replace(scanned.length);
        Ok(Self { files, run, attributes, file, length: scanned.length, offsets, grown })
    }

    pub(crate) fn run(&self) -> RunInLog {
        self.run
    }

    /// How many bytes of that stream of this run are in the file.
    pub(crate) fn offset(&self, stream: OutputStream) -> u64 {
        self.offsets.of(stream)
    }

    /// Appends the complete lines of `pending`, which starts at the stream's offset; with `Rest::Flush` also what is
    /// left without a newline. Returns how many bytes were taken: they are on the host for good.
    pub(crate) fn append(&mut self, stream: OutputStream, pending: &[u8], rest: Rest) -> io::Result<usize> {
        let form = LineForm::new(stream, Timestamp::now(), self.run.id, &self.attributes);
        let mut lines = Vec::with_capacity(pending.len() * 2);
        let mut offset = self.offsets.of(stream);
        let mut taken = 0;
        while let Some(length) = next_record(&pending[taken..], rest) {
            let text = &pending[taken..taken + length];
            taken += length;
            offset += length as u64;
            let before = lines.len();
            form.write(text, offset, &mut lines);
            if self.is_full_with(lines.len()) && self.length + before as u64 > 0 {
                self.file.write_all(&lines[..before])?;
                lines.drain(..before);
                self.file = self.files.rotate()?;
                self.length = 0;
            }
        }
        self.file.write_all(&lines)?;
        self.length += lines.len() as u64;
        self.offsets.set(stream, offset);
        self.grown.send_replace(self.length);
        Ok(taken)
    }

    fn is_full_with(&self, more: usize) -> bool {
        self.files.rotation().is_some_and(|rotation| self.length + more as u64 > rotation.max_bytes)
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
    match memchr(b'\n', window) {
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

/// How far each stream of one run got, as far as that has been found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    stdout: Option<u64>,
    stderr: Option<u64>,
    /// There were records of other runs: what is older is of others too.
    other_runs: bool,
}

impl Found {
    fn offsets(self) -> StreamOffsets {
        StreamOffsets { stdout: self.stdout.unwrap_or(0), stderr: self.stderr.unwrap_or(0) }
    }

    fn note(&mut self, stream: OutputStream, place: Place, run: RunInLog) {
        if place.run != run.id {
            self.other_runs = true;
            return;
        }
        match stream {
            OutputStream::Stdout => self.stdout = Some(place.offset),
            OutputStream::Stderr => self.stderr = Some(place.offset),
        }
    }

    /// What the file that is written to does not say may stand in those before it.
    fn or_earlier(mut self, files: &LogFiles, run: RunInLog) -> io::Result<StreamOffsets> {
        let (mut earlier, _number) = files.open_all()?;
        earlier.pop();
        while let (false, Some(mut file)) = (self.is_certain(), earlier.pop()) {
            let before = scan(&mut file, run)?.found;
            self = Self {
                stdout: self.stdout.or(before.stdout),
                stderr: self.stderr.or(before.stderr),
                other_runs: before.other_runs,
            };
        }
        Ok(self.offsets())
    }

    fn is_certain(self) -> bool {
        self.other_runs || (self.stdout.is_some() && self.stderr.is_some())
    }
}

/// What a file says.
struct Scanned {
    /// Of its whole records.
    length: u64,
    found: Found,
}

/// Reads from where the run begins, or may begin.
fn scan(file: &mut File, run: RunInLog) -> io::Result<Scanned> {
    file.seek(SeekFrom::Start(run.start))?;
    let mut reader = BufReader::new(file);
    let mut scanned = Scanned { length: run.start, found: Found::default() };
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        let Some((record, place)) = parse(&line) else { break };
        scanned.found.note(record.stream, place, run);
        scanned.length += line.len() as u64;
        line.clear();
    }
    Ok(scanned)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::super::Rotation;
    use super::*;

    fn files(directory: &tempfile::TempDir, rotation: Option<Rotation>) -> Arc<LogFiles> {
        Arc::new(LogFiles::new(directory.path().join("log"), rotation))
    }

    fn opened(files: &Arc<LogFiles>, run: Option<RunInLog>) -> LogWriter {
        LogWriter::open(Arc::clone(files), run, BTreeMap::new(), watch::Sender::new(0)).unwrap()
    }

    #[test]
    fn only_whole_lines_are_taken_until_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = opened(&files(&directory, None), None);
        assert_eq!(log.append(OutputStream::Stdout, b"one\ntwo\nthr", Rest::Keep).unwrap(), 8);
        assert_eq!(log.append(OutputStream::Stdout, b"three", Rest::Flush).unwrap(), 5);
        assert_eq!(log.offsets, StreamOffsets { stdout: 13, stderr: 0 });
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = opened(&files(&directory, None), None);
        let line = "é".repeat(MAX_RECORD_BYTES / 2 + 1);
        let shifted = format!("x{line}");
        let taken = log.append(OutputStream::Stdout, shifted.as_bytes(), Rest::Keep).unwrap();
        assert_eq!(taken, MAX_RECORD_BYTES - 1);
    }

    #[test]
    fn a_record_that_a_crash_cut_short_is_cut_off_and_asked_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(&directory, None);
        let mut log = opened(&files, None);
        log.append(OutputStream::Stdout, b"kept\n", Rest::Keep).unwrap();
        log.append(OutputStream::Stderr, b"cut\n", Rest::Keep).unwrap();
        let whole = log.length;
        let file = OpenOptions::new().write(true).open(files.path()).unwrap();
        file.set_len(whole - 3).unwrap();
        let reopened = opened(&files, Some(log.run()));
        assert_eq!(reopened.offsets, StreamOffsets { stdout: 5, stderr: 0 });
        assert_eq!(reopened.length, files.path().metadata().unwrap().len());
    }

    #[test]
    fn offsets_count_from_the_start_of_the_run() {
        let directory = tempfile::tempdir().unwrap();
        for rotation in [None, Some(Rotation { max_bytes: 1 << 20, max_files: 2 })] {
            let files = files(&directory, rotation);
            let mut first_run = opened(&files, None);
            first_run.append(OutputStream::Stdout, b"first run\n", Rest::Keep).unwrap();
            assert_eq!(opened(&files, None).offsets, StreamOffsets::default());
            assert_eq!(opened(&files, Some(first_run.run())).offsets.stdout, 10);
        }
    }

    #[test]
    fn a_full_file_makes_room_for_the_next_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(&directory, Some(Rotation { max_bytes: 1000, max_files: 3 }));
        let mut log = opened(&files, None);
        for _ in 0..50 {
            log.append(OutputStream::Stdout, "0123456789abcdef\n".repeat(5).as_bytes(), Rest::Keep).unwrap();
        }
        let mut names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert!(entry.metadata().unwrap().len() <= 1000);
                entry.file_name().into_string().unwrap()
            })
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
    }

    #[test]
    fn how_far_a_stream_got_is_found_in_the_files_before() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(&directory, Some(Rotation { max_bytes: 1000, max_files: 5 }));
        let mut log = opened(&files, None);
        log.append(OutputStream::Stderr, b"early\n", Rest::Keep).unwrap();
        let lines = "0123456789abcdef\n".repeat(20);
        log.append(OutputStream::Stdout, lines.as_bytes(), Rest::Keep).unwrap();
        let expected = StreamOffsets { stdout: lines.len() as u64, stderr: 6 };
        assert_eq!(opened(&files, Some(log.run())).offsets, expected);
        assert_eq!(opened(&files, None).offsets, StreamOffsets::default());
    }
}
