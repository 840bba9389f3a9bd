//! `/version`, `/info` and `/events`.

use bytes::Bytes;

use super::json_lines::JsonLines;
use super::request::Request;
use super::{Client, ClientError};

/// What `GET /events` can be asked for; times are `seconds[.nanoseconds]` since the epoch.
#[derive(Debug, Default)]
pub(crate) struct EventsQuery {
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    /// The JSON that the API wants.
    pub(crate) filters: Option<String>,
}

impl Client {
    /// The daemon's JSON as it came.
    pub(crate) async fn daemon_version(&self) -> Result<Bytes, ClientError> {
        self.send_for_bytes(Request::get(&["version"])).await
    }

    /// The daemon's JSON as it came.
    pub(crate) async fn info(&self) -> Result<Bytes, ClientError> {
        self.send_for_bytes(Request::get(&["info"])).await
    }

    pub(crate) async fn events(&self, query: &EventsQuery) -> Result<JsonLines, ClientError> {
        let request = Request::get(&["events"])
            .with_if_some("since", query.since.as_deref())
            .with_if_some("until", query.until.as_deref())
            .with_if_some("filters", query.filters.as_deref());
        Ok(JsonLines::new("events", self.send(request).await?))
    }
}
