//! `GET /containers/{id}/logs`.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Path, State as Extracted};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use jiff::Timestamp;

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::stream::{content_type, stdcopy};
use crate::api::time;
use crate::api::version::ApiVersion;
use crate::engine::{LogQuery, LogRecord, OutputStream};

pub(in crate::api) async fn logs(
    Extracted(daemon): State,
    Path(id): Path<String>,
    version: ApiVersion,
    params: Params,
) -> ApiResult<Response> {
    let query = query(&params, Timestamp::now())?;
    let logs = daemon.engine.logs(&id, query)?;
    let lines = Lines { terminal: logs.terminal, ..Lines::new(&params) };
    let body = stream::unfold((logs.records, lines), |(mut records, mut lines)| async move {
        let batch = records.recv().await?;
        Some((Ok::<Bytes, Infallible>(lines.print(&batch)), (records, lines)))
    });
    let content_type = content_type(logs.terminal, version);
    Ok(([(header::CONTENT_TYPE, content_type)], Body::from_stream(body)).into_response())
}

fn query(params: &Params, now: Timestamp) -> ApiResult<LogQuery> {
    let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    Ok(LogQuery {
        stdout,
        stderr,
        follow: params.flag("follow"),
        since: time::bound(params, "since", now)?,
        until: time::bound(params, "until", now)?,
        // Docker takes whatever is no number for "all".
        tail: params.text("tail").and_then(|tail| tail.parse().ok()),
    })
}

/// Prints records as Docker does: framed unless a terminal wrote them, each line with what was asked for before it.
struct Lines {
    terminal: bool,
    timestamps: bool,
    details: bool,
    /// Whether the next record of stdout and stderr begins a line.
    at_start: [bool; 2],
}

impl Lines {
    fn new(params: &Params) -> Self {
        let (timestamps, details) = (params.flag("timestamps"), params.flag("details"));
        Self { terminal: false, timestamps, details, at_start: [true, true] }
    }

    fn print(&mut self, batch: &[LogRecord]) -> Bytes {
        let mut bytes = BytesMut::new();
        batch.iter().for_each(|record| self.print_one(record, &mut bytes));
        bytes.freeze()
    }

    fn print_one(&mut self, record: &LogRecord, bytes: &mut BytesMut) {
        let header = bytes.len();
        if !self.terminal {
            bytes.extend_from_slice(&[0; stdcopy::HEADER_BYTES]);
        }
        let begin = bytes.len();
        self.print_text(record, bytes);
        if !self.terminal {
            let frame = stdcopy::frame(record.stream, bytes.len() - begin);
            bytes[header..begin].copy_from_slice(&frame);
        }
    }

    fn print_text(&mut self, record: &LogRecord, text: &mut BytesMut) {
        let at_start = match record.stream {
            OutputStream::Stdout => &mut self.at_start[0],
            OutputStream::Stderr => &mut self.at_start[1],
        };
        if *at_start && self.timestamps {
            text.extend_from_slice(time::fixed_width(record.time).as_bytes());
            text.extend_from_slice(b" ");
        }
        if *at_start && self.details {
            let details = record.attributes.iter().map(|(name, value)| format!("{name}={value}"));
            text.extend_from_slice(details.collect::<Vec<_>>().join(",").as_bytes());
            text.extend_from_slice(b" ");
        }
        *at_start = record.bytes.ends_with(b"\n");
        text.extend_from_slice(&record.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn record(bytes: &'static str) -> LogRecord {
        let time = Timestamp::from_second(0).unwrap();
        LogRecord {
            stream: OutputStream::Stdout,
            time,
            bytes: Bytes::from_static(bytes.as_bytes()),
            attributes: BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]),
        }
    }

    #[test]
    fn a_stream_must_be_chosen() {
        let error = query(&params(&[("follow", "1")]), Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.message, "Bad parameters: you must choose at least one stream");
    }

    #[test]
    fn tail_is_a_number_or_everything() {
        let tail =
            |text| query(&params(&[("stdout", "1"), ("tail", text)]), Timestamp::UNIX_EPOCH).unwrap().tail;
        assert_eq!((tail("3"), tail("all"), tail("")), (Some(3), None, None));
    }

    #[test]
    fn a_line_in_parts_has_one_timestamp() {
        let mut lines = Lines { terminal: true, ..Lines::new(&params(&[("timestamps", "1")])) };
        let printed = [lines.print(&[record("a")]), lines.print(&[record("b\n"), record("c\n")])].concat();
        let expected = "1970-01-01T00:00:00.000000000Z ab\n1970-01-01T00:00:00.000000000Z c\n";
        assert_eq!(String::from_utf8(printed).unwrap(), expected);
    }

    #[test]
    fn without_a_terminal_every_record_is_a_frame() {
        let printed = Lines::new(&params(&[])).print(&[record("hi\n"), record("ho")]);
        assert_eq!(&printed[..], b"\x01\0\0\0\0\0\0\x03hi\n\x01\0\0\0\0\0\0\x02ho");
    }

    #[test]
    fn details_are_what_the_drivers_options_ask_for() {
        let mut lines = Lines { terminal: true, ..Lines::new(&params(&[("details", "1")])) };
        assert_eq!(&lines.print(&[record("hi\n")])[..], b"a=1,b=2 hi\n");
    }
}
