//! One request to the Engine API before it is sent: method, path, query, body.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::Method;
use serde::Serialize;

use crate::credentials::Credentials;

/// The body of any request: nothing, JSON, or a stream from a file.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub(crate) struct Request {
    pub(super) method: Method,
    /// Percent-encoded, without the version prefix; for messages as well.
    pub(super) path: String,
    query: String,
    pub(super) body: Body,
    pub(super) content_type: Option<&'static str>,
    /// The value of `X-Registry-Auth`.
    pub(super) registry_auth: Option<String>,
}

impl Request {
    pub(crate) fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    pub(crate) fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    pub(crate) fn put(segments: &[&str]) -> Self {
        Self::new(Method::PUT, segments)
    }

    pub(crate) fn head(segments: &[&str]) -> Self {
        Self::new(Method::HEAD, segments)
    }

    pub(crate) fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    fn new(method: Method, segments: &[&str]) -> Self {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            encode(&mut path, segment);
        }
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Self { method, path, query: String::new(), body, content_type: None, registry_auth: None }
    }

    /// Adds `name=value`.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        encode(&mut self.query, value);
        self
    }

    pub(crate) fn with_if_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds `name=1` when `flag` is set.
    pub(crate) fn with_flag(self, name: &str, flag: bool) -> Self {
        self.with_if_some(name, flag.then_some("1"))
    }

    pub(crate) fn with_json(mut self, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("request types have string keys only");
        self.body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
        self.content_type = Some("application/json");
        self
    }

    pub(crate) fn with_body(mut self, body: Body, content_type: &'static str) -> Self {
        self.body = body;
        self.content_type = Some(content_type);
        self
    }

    /// Says who the user is at the registry that the daemon will ask.
    pub(crate) fn with_credentials(mut self, credentials: &Credentials) -> Self {
        self.registry_auth = Some(credentials.header());
        self
    }

    /// `/v1.51/containers/x/json?size=1`
    pub(super) fn target(&self, version: Option<&str>) -> String {
        match version {
            Some(version) => format!("/v{version}{}{}", self.path, self.query),
            None => format!("{}{}", self.path, self.query),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// RFC 3986 section 2.1: everything but the unreserved characters becomes `%XX`.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_one_path_segment() {
        let request = Request::get(&["containers", "a/../b?c=d", "json"]).with("filters", "{\"a\":1}");
        assert_eq!(
            request.target(Some("1.51")),
            "/v1.51/containers/a%2F..%2Fb%3Fc%3Dd/json?filters=%7B%22a%22%3A1%7D"
        );
    }

    #[test]
    fn absent_options_leave_no_trace() {
        let request =
            Request::post(&["containers", "x", "stop"]).with_if_some("t", None).with_flag("v", false);
        assert_eq!(request.target(None), "/containers/x/stop");
    }
}
