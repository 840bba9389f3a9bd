//! JSON bodies, with Docker's texts for what is not one, and a bound on their size; and archives, which have none.

use std::io::Read;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::error::{ApiError, ApiResult};

/// A create request with every label and variable a client may dream of fits many times.
const MAX_JSON_BYTES: usize = 4 << 20;

/// A body of any length as a thread that blocks reads it. Must be called within the runtime.
pub(super) fn archive_of(request: Request) -> impl Read + Send + 'static {
    let pieces = request.into_body().into_data_stream();
    let pieces = pieces.map(|piece| piece.map_err(std::io::Error::other));
    SyncIoBridge::new(StreamReader::new(pieces.boxed()))
}

/// The body as `T`, or `None` if there is none.
///
/// # Errors
/// Another content type, too many bytes, or what is no `T`.
pub(super) async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> ApiResult<Option<T>> {
    let bytes = match Limited::new(body, MAX_JSON_BYTES).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the request body is larger than {} MiB", MAX_JSON_BYTES >> 20);
            return Err(ApiError { status: StatusCode::PAYLOAD_TOO_LARGE, message });
        }
        Err(error) => return Err(ApiError::invalid(format!("cannot read the request body: {error}"))),
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    check_content_type(headers)?;
    parse(&bytes).map(Some)
}

/// A JSON object as `T`. Members that are null count as absent: Go, and so Docker, does not tell them apart.
///
/// # Errors
/// A field of another type than Docker's.
pub(super) fn decode<T: DeserializeOwned>(object: &Map<String, Value>) -> ApiResult<T> {
    let set = object.iter().filter(|(_, value)| !value.is_null());
    let value = set.map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(value).map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
}

fn check_content_type(headers: &HeaderMap) -> ApiResult<()> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("unsupported Content-Type header ({given}): must be 'application/json'");
    Err(ApiError::invalid(message))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::invalid(match error.classify() {
            serde_json::error::Category::Eof => "invalid JSON: got EOF while reading request body".to_owned(),
            _ if error.to_string().starts_with("trailing characters") => {
                "unexpected content after JSON".to_owned()
            }
            _ => format!("invalid JSON: {error}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(content_type: &'static str, body: impl Into<Body>) -> ApiResult<Option<Vec<u32>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        runtime.block_on(read_json(&headers, body.into()))
    }

    #[test]
    fn an_empty_body_is_no_error() {
        assert_eq!(read("text/plain", ""), Ok(None));
        assert_eq!(read("application/json; charset=utf-8", "[1]"), Ok(Some(vec![1])));
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        let message = |content_type, body: &str| read(content_type, body.to_owned()).unwrap_err().message;
        assert_eq!(
            message("text/plain", "[1]"),
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert_eq!(message("application/json", "[1"), "invalid JSON: got EOF while reading request body");
        assert_eq!(message("application/json", "[1] x"), "unexpected content after JSON");
        assert!(message("application/json", "[true]").starts_with("invalid JSON: "));
    }

    #[test]
    fn a_body_has_a_bound() {
        assert_eq!(read("application/json", vec![b' '; MAX_JSON_BYTES + 1]).unwrap_err().status, 413);
    }
}
