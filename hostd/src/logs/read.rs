//! Reading a container's log: the last lines, a span of time, and what is yet to come.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::OutputStream;
use super::record::{LogRecord, parse};

/// Records on their way to a client; a slow one holds up nobody but its own reader.
const CHANNEL_RECORDS: usize = 256;
/// The step in which the file is searched backwards for the last lines.
const SEARCH_BLOCK_BYTES: u64 = 64 << 10;

/// What a client wants of a log.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Only that many of the last records.
    pub tail: Option<u64>,
}

impl LogQuery {
    fn wants(&self, record: &LogRecord) -> bool {
        let stream = match record.stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        };
        stream && self.since.is_none_or(|since| record.time >= since) && !self.is_past(record)
    }

    fn is_past(&self, record: &LogRecord) -> bool {
        self.until.is_some_and(|until| record.time > until)
    }
}

/// Streams what the query asks for. Following ends when `grown`'s sender is gone, which is when the run has ended and
/// everything it printed is in the file, or when `until` has passed.
pub(crate) fn read_logs(
    path: PathBuf,
    query: LogQuery,
    grown: watch::Receiver<u64>,
) -> mpsc::Receiver<LogRecord> {
    let (sender, records) = mpsc::channel(CHANNEL_RECORDS);
    tokio::spawn(async move {
        if let Err(error) = send_records(path, query, grown, sender).await {
            tracing::warn!(%error, "cannot read a container's log");
        }
    });
    records
}

async fn send_records(
    path: PathBuf,
    query: LogQuery,
    mut grown: watch::Receiver<u64>,
    sender: mpsc::Sender<LogRecord>,
) -> io::Result<()> {
    let mut position = Position { path, next: None };
    loop {
        // Seen before reading: what is written while we read is found in the next round.
        let run_ended = grown.has_changed().is_err();
        grown.mark_unchanged();
        let (task_query, task_sender) = (query.clone(), sender.clone());
        let reading = tokio::task::spawn_blocking(move || position.advance(&task_query, &task_sender));
        let (advanced, outcome) = reading.await.map_err(io::Error::other)??;
        position = advanced;
        if outcome == Outcome::Finished || !query.follow || run_ended {
            return Ok(());
        }
        tokio::select! {
            // An error is the end of the run: one more round reads the rest.
            _changed = grown.changed() => {}
            () = sender.closed() => return Ok(()),
            () = sleep_until(query.until) => return Ok(()),
        }
    }
}

async fn sleep_until(until: Option<Timestamp>) {
    match until {
        Some(until) => {
            let left = until.duration_since(Timestamp::now());
            tokio::time::sleep(left.try_into().unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    ReachedEnd,
    /// Nobody listens any more, or all that comes is too late.
    Finished,
}

/// How far the file was read; `None` before the first round.
struct Position {
    path: PathBuf,
    next: Option<u64>,
}

impl Position {
    /// Sends the wanted records up to the end of the file. Blocks while the client is slow.
    fn advance(mut self, query: &LogQuery, sender: &mpsc::Sender<LogRecord>) -> io::Result<(Self, Outcome)> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((self, Outcome::ReachedEnd)),
            Err(error) => return Err(error),
        };
        let mut next = match (self.next, query.tail) {
            (Some(next), _) => next,
            (None, None) => 0,
            (None, Some(lines)) => start_of_last(&mut file, lines, query)?,
        };
        file.seek(SeekFrom::Start(next))?;
        let mut reader = BufReader::with_capacity(64 << 10, file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            next += line.len() as u64;
            if let Some((record, _offset)) = parse(&line) {
                let finished = query.is_past(&record);
                if finished || (query.wants(&record) && sender.blocking_send(record).is_err()) {
                    return Ok((self, Outcome::Finished));
                }
            }
            line.clear();
        }
        self.next = Some(next);
        Ok((self, Outcome::ReachedEnd))
    }
}

/// Where the last `lines` wanted records begin.
fn start_of_last(file: &mut File, lines: u64, query: &LogQuery) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    // The part of a line that continues into the block searched before.
    let mut remainder: Vec<u8> = Vec::new();
    let mut found = 0;
    if lines == 0 {
        return Ok(length);
    }
    while end > 0 {
        let start = end.saturating_sub(SEARCH_BLOCK_BYTES);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut block)?;
        block.extend_from_slice(&remainder);
        // Without the first line, which may begin in the block before, unless this is the file's first block.
        let first_line = match block.iter().position(|byte| *byte == b'\n') {
            _ if start == 0 => 0,
            Some(newline) => newline + 1,
            None => block.len(),
        };
        let mut line_end = block.len();
        while line_end > first_line {
            let before = &block[first_line..line_end - 1];
            let line_start =
                before.iter().rposition(|byte| *byte == b'\n').map_or(first_line, |at| first_line + at + 1);
            let record = parse(&block[line_start..line_end]);
            found += u64::from(record.is_some_and(|(record, _)| query.wants(&record)));
            if found == lines {
                return Ok(start + line_start as u64);
            }
            line_end = line_start;
        }
        remainder = block[..first_line].to_vec();
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::{LogWriter, Rest};
    use super::*;

    struct Log {
        _directory: tempfile::TempDir,
        path: PathBuf,
        writer: LogWriter,
    }

    impl Log {
        fn with_lines(count: usize) -> (Self, watch::Receiver<u64>) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            let (grown, seen) = watch::channel(0);
            let mut writer = LogWriter::open(&path, 0, grown).unwrap();
            let text: String = (0..count).map(|n| format!("line {n}\n")).collect();
            writer.append(OutputStream::Stdout, text.as_bytes(), Rest::Keep).unwrap();
            (Self { _directory: directory, path, writer }, seen)
        }
    }

    fn all() -> LogQuery {
        LogQuery { stdout: true, stderr: true, ..LogQuery::default() }
    }

    async fn texts(mut records: mpsc::Receiver<LogRecord>) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(record) = records.recv().await {
            texts.push(String::from_utf8(record.bytes.to_vec()).unwrap());
        }
        texts
    }

    #[tokio::test]
    async fn the_last_lines_of_a_long_log_are_found_from_its_end() {
        let (log, seen) = Log::with_lines(5000);
        let query = LogQuery { tail: Some(2), ..all() };
        assert_eq!(texts(read_logs(log.path, query, seen)).await, ["line 4998\n", "line 4999\n"]);
    }

    #[tokio::test]
    async fn more_last_lines_than_there_are_is_all_of_them() {
        let (log, seen) = Log::with_lines(3000);
        for tail in [Some(3000), Some(9999), None] {
            let query = LogQuery { tail, ..all() };
            assert_eq!(texts(read_logs(log.path.clone(), query, seen.clone())).await.len(), 3000);
        }
    }

    #[tokio::test]
    async fn no_last_lines_is_nothing() {
        let (log, seen) = Log::with_lines(3);
        let query = LogQuery { tail: Some(0), ..all() };
        assert!(texts(read_logs(log.path, query, seen)).await.is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_is_not_wanted_is_left_out() {
        let (mut log, seen) = Log::with_lines(1);
        log.writer.append(OutputStream::Stderr, b"trouble\n", Rest::Keep).unwrap();
        let query = LogQuery { stdout: false, ..all() };
        assert_eq!(texts(read_logs(log.path, query, seen)).await, ["trouble\n"]);
    }

    #[tokio::test]
    async fn following_sees_what_comes_and_ends_with_the_run() {
        let (mut log, seen) = Log::with_lines(1);
        let query = LogQuery { follow: true, ..all() };
        let mut records = read_logs(log.path.clone(), query, seen);
        assert_eq!(records.recv().await.unwrap().bytes, "line 0\n");
        log.writer.append(OutputStream::Stdout, b"later\n", Rest::Keep).unwrap();
        assert_eq!(records.recv().await.unwrap().bytes, "later\n");
        log.writer.append(OutputStream::Stdout, b"last", Rest::Flush).unwrap();
        drop(log.writer);
        assert_eq!(texts(records).await, ["last"]);
    }

    #[tokio::test]
    async fn a_span_of_time_leaves_out_what_is_before_and_after() {
        let (log, seen) = Log::with_lines(3);
        let long_ago = Timestamp::UNIX_EPOCH;
        let before = LogQuery { until: Some(long_ago), ..all() };
        assert!(texts(read_logs(log.path.clone(), before, seen.clone())).await.is_empty());
        let after = LogQuery { since: Some(long_ago), ..all() };
        assert_eq!(texts(read_logs(log.path, after, seen)).await.len(), 3);
    }
}
