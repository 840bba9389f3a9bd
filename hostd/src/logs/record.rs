//! One line of a log file.

use std::borrow::Cow;
use std::collections::BTreeMap;

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
    /// What the driver's options put beside it.
    pub attributes: BTreeMap<String, String>,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordLine<'a> {
    /// Bytes that are no UTF-8 are replaced, as Docker's json-file does.
    #[serde(borrow)]
    pub(super) log: Cow<'a, str>,
    pub(super) stream: OutputStream,
    pub(super) time: Timestamp,
    /// How many bytes of this run's stream end with this record.
    pub(super) offset: u64,
    /// Which run; 0 where files do not rotate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) run: u64,
    #[serde(default, rename = "attrs", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) attributes: Cow<'a, BTreeMap<String, String>>,
}

/// Where a record ends in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) run: u64,
    pub(super) offset: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The record of one line of the file; `None` if it is none.
pub(super) fn parse(line: &[u8]) -> Option<(LogRecord, Place)> {
    let line: RecordLine<'_> = serde_json::from_slice(line).ok()?;
    let record = LogRecord {
        stream: line.stream,
        time: line.time,
        bytes: Bytes::copy_from_slice(line.log.as_bytes()),
        attributes: line.attributes.into_owned(),
    };
    Some((record, Place { run: line.run, offset: line.offset }))
}
