//! JSON bodies, with Docker's texts for what is not one, and a bound on their size; and archives, which have none.

mod lenient;

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;
use tokio_util::io::{StreamReader, SyncIoBridge};

pub(super) use self::lenient::member;
use self::lenient::{Lenient, Misfit};
use super::error::{ApiError, ApiResult};

/// A create request with every label and variable a client may dream of fits many times.
const MAX_JSON_BYTES: usize = 4 << 20;
/// From the end of a request's headers to the end of its JSON: clients send both at once.
const JSON_DEADLINE: Duration = Duration::from_secs(60);
/// Docker's answer to a body of nothing, and to one that is necessary and not there.
pub(super) const NO_JSON: &str = "invalid JSON: got EOF while reading request body";

/// A body of any length as a thread that blocks reads it. Must be called within the runtime.
pub(super) fn archive_of(request: Request) -> impl Read + Send + 'static {
    let pieces = request.into_body().into_data_stream();
    let pieces = pieces.map(|piece| piece.map_err(std::io::Error::other));
    SyncIoBridge::new(StreamReader::new(pieces.boxed()))
}

/// The body as `T`, or `None` if there is none.
///
/// # Errors
/// Another content type, too many bytes, one that does not arrive, or what is no `T`.
pub(super) async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> ApiResult<Option<T>> {
    let bytes = match timeout(JSON_DEADLINE, Limited::new(body, MAX_JSON_BYTES).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the request body is larger than {} MiB", MAX_JSON_BYTES >> 20);
            return Err(ApiError { status: StatusCode::PAYLOAD_TOO_LARGE, message });
        }
        Ok(Err(error)) => return Err(ApiError::invalid(format!("cannot read the request body: {error}"))),
        Err(_elapsed) => {
            let message = format!("the request body did not arrive within {} s", JSON_DEADLINE.as_secs());
            return Err(ApiError { status: StatusCode::REQUEST_TIMEOUT, message });
        }
    };
    if bytes.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        return Ok(None);
    }
    check_content_type(headers)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    parse(&bytes).map(Some)
}

/// A JSON object as `T`, as leniently as Docker reads it.
///
/// # Errors
/// A field of another type than Docker's, by name.
pub(super) fn decode<T: DeserializeOwned>(object: &Map<String, Value>) -> ApiResult<T> {
    fitting("", &Value::Object(object.clone()))
}

/// The same for a part of a request, which `name` names.
pub(super) fn decode_part<T: DeserializeOwned>(name: &str, object: &Map<String, Value>) -> ApiResult<T> {
    fitting(name, &Value::Object(object.clone()))
}

fn fitting<T: DeserializeOwned>(name: &str, value: &Value) -> ApiResult<T> {
    T::deserialize(Lenient(value)).map_err(|misfit: Misfit| {
        let misfit = if name.is_empty() { misfit } else { misfit.inside(name) };
        ApiError::invalid(format!("invalid JSON: {misfit}"))
    })
}

fn check_content_type(headers: &HeaderMap) -> ApiResult<()> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let given = given.unwrap_or_default();
    let (media_type, parameters) = given.split_once(';').unwrap_or((&given, ""));
    let media_type = media_type.trim();
    if let Some(problem) = malformed(media_type, parameters) {
        return Err(ApiError::invalid(format!("malformed Content-Type header ({given}): mime: {problem}")));
    }
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("unsupported Content-Type header ({given}): must be 'application/json'");
    Err(ApiError::invalid(message))
}

/// What RFC 2045 has against a media type.
fn malformed(media_type: &str, parameters: &str) -> Option<&'static str> {
    let is_token = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
    };
    let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, "any"));
    if media_type.is_empty() {
        return Some("no media type");
    }
    if !is_token(kind) || !is_token(subtype) {
        return Some("expected token after slash");
    }
    let is_parameter = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or_default();
        is_token(name.trim()) && !value.trim().is_empty()
    };
    // One that ends with a semicolon is common.
    let mut parameters = parameters.strip_suffix(';').unwrap_or(parameters).split(';').map(str::trim);
    let all_are_parameters = parameters.by_ref().filter(|text| !text.is_empty()).all(is_parameter);
    (!all_are_parameters).then_some("invalid media parameter")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::invalid(match error.classify() {
            serde_json::error::Category::Eof if bytes.trim_ascii().is_empty() => NO_JSON.to_owned(),
            serde_json::error::Category::Eof => "invalid JSON: unexpected EOF".to_owned(),
            _ if error.to_string().starts_with("trailing characters") => {
                "unexpected content after JSON".to_owned()
            }
            _ => format!("invalid JSON: {error}"),
        })
    })?;
    fitting("", &value)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(content_type: &'static str, body: impl Into<Body>) -> ApiResult<Option<Vec<u32>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        runtime.block_on(read_json(&headers, body.into()))
    }

    #[test]
    fn an_empty_body_is_no_error() {
        assert_eq!(read("application/json", ""), Ok(None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let absent = runtime.block_on(read_json::<Vec<u32>>(&HeaderMap::new(), Body::empty()));
        assert_eq!(absent, Ok(None));
        assert_eq!(read("application/json; charset=utf-8", "[1]"), Ok(Some(vec![1])));
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        let message = |content_type, body: &str| read(content_type, body.to_owned()).unwrap_err().message;
        assert_eq!(
            message("text/plain", "[1]"),
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        for (content_type, problem) in [
            ("", "no media type"),
            ("application/", "expected token after slash"),
            ("application/js on", "expected token after slash"),
            ("application/json; charset", "invalid media parameter"),
        ] {
            let expected = format!("malformed Content-Type header ({content_type}): mime: {problem}");
            assert_eq!(message(content_type, "[1]"), expected);
        }
        assert_eq!(message("application/json", " \n"), NO_JSON);
        assert_eq!(message("application/json", "[1"), "invalid JSON: unexpected EOF");
        assert_eq!(message("application/json", "[1] x"), "unexpected content after JSON");
        assert!(message("application/json", "[true]").starts_with("invalid JSON: "));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_not_waited_for_for_ever() {
        let body = Body::from_stream(futures_util::stream::pending::<std::io::Result<bytes::Bytes>>());
        let error = read_json::<Value>(&HeaderMap::new(), body).await.unwrap_err();
        assert_eq!(
            (error.status.as_u16(), error.message.as_str()),
            (408, "the request body did not arrive within 60 s")
        );
    }

    #[test]
    fn a_body_has_a_bound() {
        assert_eq!(read("application/json", vec![b' '; MAX_JSON_BYTES + 1]).unwrap_err().status, 413);
    }
}
