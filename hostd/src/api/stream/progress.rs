//! Docker's progress stream: JSON objects, one a line, which pull, push, load and import answer with.
//!
//! The status is decided by the first thing that happens: what is refused before any progress was shown answers as an
//! error, what fails later ends the stream with an `errorDetail` object. Knows nothing of what makes progress.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::api::error::{ApiError, ApiResult};

/// Reports that wait for a slow client; more, and who sends status lines waits with it.
const WAITING_REPORTS: usize = 64;
/// Characters of a bar.
const BAR_WIDTH: usize = 50;
const SIZE_UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// One object of the stream.
#[derive(Debug, PartialEq)]
pub(in crate::api) enum Report {
    /// A line of plain text, with its line break.
    Text(String),
    /// What happens, to what: a layer's short digest, a tag, nothing in particular.
    Status { id: Option<String>, status: String },
    /// A bar that moves. A `total_bytes` of 0 is unknown.
    Bytes { id: String, status: &'static str, current_bytes: u64, total_bytes: u64 },
    /// A value for programs.
    Aux(Value),
    /// The last one.
    Failed(ApiError),
}

impl Report {
    pub(in crate::api) fn status(status: impl Into<String>) -> Self {
        Self::Status { id: None, status: status.into() }
    }

    pub(in crate::api) fn of(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self::Status { id: Some(id.into()), status: status.into() }
    }
}

/// The client has gone away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct Gone;

/// Where the work's reports go. Clones write to the same stream.
#[derive(Clone, Debug)]
pub(in crate::api) struct Reporter(mpsc::Sender<Report>);

/// Where the answer comes from.
#[derive(Debug)]
pub(in crate::api) struct Reports(mpsc::Receiver<Report>);

pub(in crate::api) fn channel() -> (Reporter, Reports) {
    let (sender, receiver) = mpsc::channel(WAITING_REPORTS);
    (Reporter(sender), Reports(receiver))
}

impl Reporter {
    /// Waits for a slow client.
    pub(in crate::api) async fn send(&self, report: Report) -> Result<(), Gone> {
        self.0.send(report).await.map_err(|_gone| Gone)
    }

    /// The same from a thread that may block.
    pub(in crate::api) fn blocking_send(&self, report: Report) -> Result<(), Gone> {
        self.0.blocking_send(report).map_err(|_gone| Gone)
    }

    /// Drops the report if the client is slow: for bars, of which the next position says all.
    pub(in crate::api) fn offer(&self, report: Report) -> Result<(), Gone> {
        match self.0.try_send(report) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
        }
    }

    /// Completes when the client goes away.
    pub(in crate::api) async fn gone(&self) {
        self.0.closed().await;
    }
}

impl Reports {
    /// The answer: waits for the first report, and ends when every [`Reporter`] is gone.
    ///
    /// # Errors
    /// The first report is a failure, or there is none.
    pub(in crate::api) async fn into_response(mut self) -> ApiResult<Response> {
        match self.0.recv().await {
            Some(Report::Failed(error)) => Err(error),
            Some(first) => Ok(self.stream_from(first)),
            None => Err(ApiError::internal("the operation ended without a result")),
        }
    }

    fn stream_from(self, first: Report) -> Response {
        let rest = stream::unfold(self.0, async |mut reports| Some((reports.recv().await?, reports)));
        let lines = stream::iter([first]).chain(rest).map(|report| Ok::<Bytes, Infallible>(line(report)));
        ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
    }
}

/// In the order in which Docker writes the fields.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_detail: Option<Detail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<Value>,
}

#[derive(Default, Serialize)]
struct Detail {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
}

#[derive(Serialize)]
struct ErrorDetail {
    message: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn line(report: Report) -> Bytes {
    let object = match report {
        Report::Text(text) => Object { stream: Some(text), ..Object::default() },
        Report::Status { id, status } => Object {
            // Docker's clients take an object with an id for a line that changes.
            progress_detail: id.is_some().then(Detail::default),
            status: Some(status),
            id,
            ..Object::default()
        },
        Report::Bytes { id, status, current_bytes, total_bytes } => Object {
            status: Some(status.to_owned()),
            progress_detail: Some(Detail { current: current_bytes, total: total_bytes }),
            progress: Some(bar(current_bytes, total_bytes)).filter(|bar| !bar.is_empty()),
            id: Some(id),
            ..Object::default()
        },
        Report::Aux(value) => Object { aux: Some(value), ..Object::default() },
        Report::Failed(error) => Object {
            error_detail: Some(ErrorDetail { message: error.message.clone() }),
            error: Some(error.message),
            ..Object::default()
        },
    };
    let mut line = serde_json::to_vec(&object).expect("its keys are text");
    line.extend(b"\r\n");
    line.into()
}

/// The bar as text, for clients that draw none themselves.
fn bar(current_bytes: u64, total_bytes: u64) -> String {
    let current = human(current_bytes);
    if total_bytes == 0 {
        return if current_bytes == 0 { String::new() } else { format!("{current:>8}") };
    }
    let share = u128::from(current_bytes) * BAR_WIDTH as u128 / u128::from(total_bytes);
    let done = usize::try_from(share).unwrap_or(BAR_WIDTH).min(BAR_WIDTH);
    let (done, left) = ("=".repeat(done), " ".repeat(BAR_WIDTH - done));
    let total = if current_bytes > total_bytes { String::new() } else { format!("/{}", human(total_bytes)) };
    format!("[{done}>{left}] {current:>8}{total}")
}

/// Four digits and a unit: `32.44kB`.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < SIZE_UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    let digits = format!("{value:.decimals$}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}{}", SIZE_UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(report: Report) -> String {
        String::from_utf8(line(report).to_vec()).unwrap()
    }

    #[test]
    fn objects_read_as_dockers() {
        assert_eq!(
            text(Report::of("8a5b2b", "Pulling fs layer")),
            "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"8a5b2b\"}\r\n"
        );
        assert_eq!(text(Report::status("Digest: x")), "{\"status\":\"Digest: x\"}\r\n");
        assert_eq!(text(Report::Aux(serde_json::json!({ "Size": 1 }))), "{\"aux\":{\"Size\":1}}\r\n");
        assert_eq!(text(Report::Text("Loaded\n".into())), "{\"stream\":\"Loaded\\n\"}\r\n");
        let failed = Report::Failed(ApiError::invalid("no"));
        assert_eq!(text(failed), "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n");
        let bytes = Report::Bytes {
            id: "8a5b2b".into(),
            status: "Downloading",
            current_bytes: 32_440,
            total_bytes: 64_880,
        };
        let bar = format!("[{}>{}]  32.44kB/64.88kB", "=".repeat(25), " ".repeat(25));
        assert_eq!(
            text(bytes),
            format!(
                "{{\"status\":\"Downloading\",\"progressDetail\":{{\"current\":32440,\"total\":64880}},\
                 \"progress\":\"{bar}\",\"id\":\"8a5b2b\"}}\r\n"
            )
        );
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234_567, "1.235MB"),
            (12_345_678, "12.35MB"),
            (123_456_789, "123.5MB"),
            (u64::MAX, "18.45EB"),
        ] {
            assert_eq!(human(bytes), expected);
        }
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(5, 0), "      5B");
        assert!(bar(u64::MAX, 1).ends_with(">]  18.45EB"));
    }

    #[tokio::test]
    async fn a_first_failure_is_an_answer_and_a_later_one_an_object() {
        let (reporter, reports) = channel();
        reporter.send(Report::Failed(ApiError::not_found("none"))).await.unwrap();
        assert_eq!(reports.into_response().await.unwrap_err().message, "none");
        let (reporter, reports) = channel();
        reporter.send(Report::status("begun")).await.unwrap();
        reporter.send(Report::Failed(ApiError::not_found("none"))).await.unwrap();
        drop(reporter);
        let response = reports.into_response().await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert!(body.ends_with(b"\"error\":\"none\"}\r\n"), "{body:?}");
        let (reporter, reports) = channel();
        drop(reports);
        reporter.gone().await;
        assert_eq!(reporter.offer(Report::status("x")), Err(Gone));
    }
}
