//! One line of a log file.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::OutputStream;

/// A line of output, with its newline, or a part of a line that was too long or ended without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub stream: OutputStream,
    pub time: Timestamp,
    pub bytes: Bytes,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordLine<'a> {
    /// Bytes that are no UTF-8 are replaced, as Docker's json-file does.
    #[serde(borrow)]
    pub(super) log: std::borrow::Cow<'a, str>,
    pub(super) stream: OutputStream,
    pub(super) time: Timestamp,
    /// How many bytes of this run's stream end with this record.
    pub(super) offset: u64,
}

/// The record of one line of the file; `None` if it is none.
pub(super) fn parse(line: &[u8]) -> Option<(LogRecord, u64)> {
    let line: RecordLine<'_> = serde_json::from_slice(line).ok()?;
    let record = LogRecord {
        stream: line.stream,
        time: line.time,
        bytes: Bytes::copy_from_slice(line.log.as_bytes()),
    };
    Some((record, line.offset))
}
