//! Reading a container's log: the last lines, a span of time, and what is yet to come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::record::{LogRecord, parse};
use super::{LogFiles, OutputStream};

/// Records travel in batches of about so many bytes of files, and so many batches wait for a client; a slow one holds
/// up nobody but its own reader.
const BATCH_BYTES: usize = 64 << 10;
const CHANNEL_BATCHES: usize = 4;
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

/// Streams what the query asks for, in batches. Following ends when `grown`'s sender is gone, which is when the run has
/// ended and everything it printed is in the files, or when `until` has passed.
pub(crate) fn read_logs(
    files: Arc<LogFiles>,
    query: LogQuery,
    grown: watch::Receiver<u64>,
) -> mpsc::Receiver<Vec<LogRecord>> {
    let (sender, records) = mpsc::channel(CHANNEL_BATCHES);
    tokio::spawn(async move {
        if let Err(error) = send_records(files, query, grown, sender).await {
            tracing::warn!(%error, "cannot read a container's log");
        }
    });
    records
}

async fn send_records(
    files: Arc<LogFiles>,
    query: LogQuery,
    mut grown: watch::Receiver<u64>,
    sender: mpsc::Sender<Vec<LogRecord>>,
) -> io::Result<()> {
    let mut position: Option<Position> = None;
    loop {
        // Seen before reading: what is written while we read is found in the next round.
        let run_ended = grown.has_changed().is_err();
        grown.mark_unchanged();
        let (task_files, task_query, task_sender) = (Arc::clone(&files), query.clone(), sender.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut position = position.map_or_else(|| Position::first(task_files, &task_query), Ok)?;
            let outcome = position.advance(&task_query, &task_sender)?;
            Ok::<_, io::Error>((position, outcome))
        });
        let (advanced, outcome) = reading.await.map_err(io::Error::other)??;
        position = Some(advanced);
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

/// How far the files were read.
struct Position {
    files: Arc<LogFiles>,
    /// Oldest first; those that are held open are read to their end, whatever is renamed or removed meanwhile.
    open: VecDeque<BufReader<File>>,
    /// The last one's.
    number: u64,
    /// A record of which not everything was written yet.
    line: Vec<u8>,
}

impl Position {
    fn first(files: Arc<LogFiles>, query: &LogQuery) -> io::Result<Self> {
        let (mut open, number) = files.open_all()?;
        if let Some(lines) = query.tail {
            start_at_last(&mut open, lines, query)?;
        }
        let open = open.into_iter().map(|file| BufReader::with_capacity(64 << 10, file)).collect();
        Ok(Self { files, open, number, line: Vec::new() })
    }

    /// Sends the wanted records up to the end of the log. Blocks while the client is slow.
    fn advance(&mut self, query: &LogQuery, sender: &mpsc::Sender<Vec<LogRecord>>) -> io::Result<Outcome> {
        loop {
            // Known before reading: to a complete file nothing is added behind our back.
            let is_last = self.open.len() <= 1;
            let is_complete = !is_last || self.files.is_complete(self.number);
            if let Some(file) = self.open.front_mut()
                && send_file(file, &mut self.line, query, sender)? == Outcome::Finished
            {
                return Ok(Outcome::Finished);
            }
            if !is_complete && !self.open.is_empty() {
                return Ok(Outcome::ReachedEnd);
            }
            if is_last && !self.open_next()? {
                return Ok(Outcome::ReachedEnd);
            }
            if !is_last {
                self.open.pop_front();
            }
            // What a crash left at the end of a complete file is no record.
            self.line.clear();
        }
    }

    /// Goes on with the file after the last one. Nothing was ever written to a log without files.
    fn open_next(&mut self) -> io::Result<bool> {
        let opened = if self.open.is_empty() {
            let (mut files, number) = self.files.open_all()?;
            files.pop().map(|file| (file, number))
        } else {
            Some(self.files.open_after(self.number)?)
        };
        let Some((file, number)) = opened else { return Ok(false) };
        self.number = number;
        self.open.clear();
        self.open.push_back(BufReader::with_capacity(64 << 10, file));
        Ok(true)
    }
}

/// Sends what of a file has not been read.
fn send_file(
    file: &mut BufReader<File>,
    line: &mut Vec<u8>,
    query: &LogQuery,
    sender: &mpsc::Sender<Vec<LogRecord>>,
) -> io::Result<Outcome> {
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    while file.read_until(b'\n', line)? > 0 && line.ends_with(b"\n") {
        batch_bytes += line.len();
        let record = parse(line).map(|(record, _place)| record);
        line.clear();
        if record.as_ref().is_some_and(|record| query.is_past(record)) {
            let _nobody_listens = sender.blocking_send(batch);
            return Ok(Outcome::Finished);
        }
        batch.extend(record.filter(|record| query.wants(record)));
        if batch_bytes >= BATCH_BYTES {
            batch_bytes = 0;
            if sender.blocking_send(std::mem::take(&mut batch)).is_err() {
                return Ok(Outcome::Finished);
            }
        }
    }
    if !batch.is_empty() && sender.blocking_send(batch).is_err() {
        return Ok(Outcome::Finished);
    }
    Ok(Outcome::ReachedEnd)
}

/// Leaves the files open that hold the last `lines` wanted records, the first of them at its first one.
fn start_at_last(files: &mut Vec<File>, lines: u64, query: &LogQuery) -> io::Result<()> {
    let mut missing = lines;
    for index in (0..files.len()).rev() {
        let (start, found) = start_of_last(&mut files[index], missing, query)?;
        missing -= found;
        files[index].seek(SeekFrom::Start(start))?;
        if missing == 0 {
            files.drain(..index);
            return Ok(());
        }
    }
    Ok(())
}

/// Where the last `lines` wanted records of a file begin, or as many as there are, and how many that is.
fn start_of_last(file: &mut File, lines: u64, query: &LogQuery) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    let mut end = length;
    // The part of a line that continues into the block searched before.
    let mut remainder: Vec<u8> = Vec::new();
    let mut found = 0;
    if lines == 0 {
        return Ok((length, 0));
    }
    while end > 0 {
        let start = end.saturating_sub(SEARCH_BLOCK_BYTES);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
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
                return Ok((start + line_start as u64, found));
            }
            line_end = line_start;
        }
        remainder = block[..first_line].to_vec();
        end = start;
    }
    Ok((0, found))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{LogWriter, Rest, Rotation};
    use super::*;

    struct Log {
        _directory: tempfile::TempDir,
        files: Arc<LogFiles>,
        writer: LogWriter,
    }

    impl Log {
        fn with_lines(count: usize) -> (Self, watch::Receiver<u64>) {
            Self::rotating(count, None)
        }

        fn rotating(count: usize, rotation: Option<Rotation>) -> (Self, watch::Receiver<u64>) {
            let directory = tempfile::tempdir().unwrap();
            let files = Arc::new(LogFiles::new(directory.path().join("log"), rotation));
            let (grown, seen) = watch::channel(0);
            let mut writer = LogWriter::open(Arc::clone(&files), None, BTreeMap::new(), grown).unwrap();
            let text: String = (0..count).map(|n| format!("line {n}\n")).collect();
            writer.append(OutputStream::Stdout, text.as_bytes(), Rest::Keep).unwrap();
            (Self { _directory: directory, files, writer }, seen)
        }
    }

    fn all() -> LogQuery {
        LogQuery { stdout: true, stderr: true, ..LogQuery::default() }
    }

    fn text(record: &LogRecord) -> String {
        String::from_utf8(record.bytes.to_vec()).unwrap()
    }

    async fn texts(mut records: mpsc::Receiver<Vec<LogRecord>>) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(batch) = records.recv().await {
            texts.extend(batch.iter().map(text));
        }
        texts
    }

    #[tokio::test]
    async fn the_last_lines_of_a_long_log_are_found_from_its_end() {
        let (log, seen) = Log::with_lines(5000);
        let query = LogQuery { tail: Some(2), ..all() };
        assert_eq!(texts(read_logs(log.files, query, seen)).await, ["line 4998\n", "line 4999\n"]);
    }

    #[tokio::test]
    async fn more_last_lines_than_there_are_is_all_of_them() {
        let (log, seen) = Log::with_lines(3000);
        for tail in [Some(3000), Some(9999), None] {
            let query = LogQuery { tail, ..all() };
            assert_eq!(texts(read_logs(log.files.clone(), query, seen.clone())).await.len(), 3000);
        }
    }

    #[tokio::test]
    async fn no_last_lines_is_nothing() {
        let (log, seen) = Log::with_lines(3);
        let query = LogQuery { tail: Some(0), ..all() };
        assert!(texts(read_logs(log.files, query, seen)).await.is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_is_not_wanted_is_left_out() {
        let (mut log, seen) = Log::with_lines(1);
        log.writer.append(OutputStream::Stderr, b"trouble\n", Rest::Keep).unwrap();
        let query = LogQuery { stdout: false, ..all() };
        assert_eq!(texts(read_logs(log.files, query, seen)).await, ["trouble\n"]);
    }

    #[tokio::test]
    async fn following_sees_what_comes_and_ends_with_the_run() {
        let (mut log, seen) = Log::with_lines(1);
        let query = LogQuery { follow: true, ..all() };
        let mut records = read_logs(log.files.clone(), query, seen);
        assert_eq!(text(&records.recv().await.unwrap()[0]), "line 0\n");
        log.writer.append(OutputStream::Stdout, b"later\n", Rest::Keep).unwrap();
        assert_eq!(text(&records.recv().await.unwrap()[0]), "later\n");
        log.writer.append(OutputStream::Stdout, b"last", Rest::Flush).unwrap();
        drop(log.writer);
        assert_eq!(texts(records).await, ["last"]);
    }

    #[tokio::test]
    async fn a_span_of_time_leaves_out_what_is_before_and_after() {
        let (log, seen) = Log::with_lines(3);
        let long_ago = Timestamp::UNIX_EPOCH;
        let before = LogQuery { until: Some(long_ago), ..all() };
        assert!(texts(read_logs(log.files.clone(), before, seen.clone())).await.is_empty());
        let after = LogQuery { since: Some(long_ago), ..all() };
        assert_eq!(texts(read_logs(log.files, after, seen)).await.len(), 3);
    }

    const SMALL: Option<Rotation> = Some(Rotation { max_bytes: 1000, max_files: 4 });

    #[tokio::test]
    async fn the_last_lines_are_found_across_files() {
        let (log, seen) = Log::rotating(1000, SMALL);
        let query = LogQuery { tail: Some(20), ..all() };
        let expected: Vec<_> = (980..1000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(texts(read_logs(log.files, query, seen)).await, expected);
    }

    #[tokio::test]
    async fn what_is_left_of_a_log_that_rotates_is_whole() {
        let (log, seen) = Log::rotating(1000, SMALL);
        let left = texts(read_logs(log.files, all(), seen)).await;
        let expected: Vec<_> = (1000 - left.len()..1000).map(|n| format!("line {n}\n")).collect();
        assert!(left.len() > 20, "{} lines are left", left.len());
        assert_eq!(left, expected);
    }

    #[tokio::test]
    async fn following_goes_on_over_rotations() {
        let (mut log, seen) = Log::rotating(1, SMALL);
        let query = LogQuery { follow: true, ..all() };
        let mut records = read_logs(log.files.clone(), query, seen);
        assert_eq!(text(&records.recv().await.unwrap()[0]), "line 0\n");
        for number in 1..500 {
            let line = format!("line {number}\n");
            log.writer.append(OutputStream::Stdout, line.as_bytes(), Rest::Keep).unwrap();
            assert_eq!(text(&records.recv().await.unwrap()[0]), line);
        }
        log.writer.append(OutputStream::Stdout, b"last", Rest::Flush).unwrap();
        drop(log.writer);
        assert_eq!(texts(records).await, ["last"]);
    }

    #[tokio::test]
    async fn a_follower_that_is_left_behind_goes_on_with_the_oldest_that_there_is() {
        let (mut log, seen) = Log::rotating(1, SMALL);
        let mut records = read_logs(log.files.clone(), LogQuery { follow: true, ..all() }, seen);
        assert_eq!(text(&records.recv().await.unwrap()[0]), "line 0\n");
        let lines: String = (1..100_000).map(|n| format!("line {n}\n")).collect();
        log.writer.append(OutputStream::Stdout, lines.as_bytes(), Rest::Keep).unwrap();
        drop(log.writer);
        let read = texts(records).await;
        assert_eq!(read.last().unwrap(), "line 99999\n");
        let numbers: Vec<u32> = read.iter().map(|line| line[5..].trim_end().parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "in order, and nothing twice");
    }
}
