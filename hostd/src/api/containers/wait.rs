//! `POST /containers/{id}/wait`: headers when the wait has begun, the body when the container has ended.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Path, State as Extracted};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::engine::{WaitCondition, WaitResult};

/// A client that sees the headers knows that an end from now on does not escape it: `docker run` waits for them
/// before it starts the container.
pub(in crate::api) async fn wait(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    let condition = condition(params.text("condition"))?;
    let wait = daemon.engine.wait(&id, condition)?;
    let end = stream::once(async move { Ok::<Bytes, Infallible>(body(wait.exit().await)) });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(end)).into_response())
}

fn condition(text: Option<&str>) -> ApiResult<WaitCondition> {
    match text {
        None | Some("not-running") => Ok(WaitCondition::NotRunning),
        Some("next-exit") => Ok(WaitCondition::NextExit),
        Some("removed") => Ok(WaitCondition::Removed),
        Some(other) => Err(ApiError::invalid(format!("invalid condition: \"{other}\""))),
    }
}

fn body(result: WaitResult) -> Bytes {
    let mut reply = json!({ "StatusCode": result.code });
    if let Some(message) = result.error {
        reply["Error"] = json!({ "Message": message });
    }
    format!("{reply}\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dockers_conditions_are_known() {
        assert_eq!(condition(Some("removed")), Ok(WaitCondition::Removed));
        assert_eq!(condition(Some("x")).unwrap_err().message, "invalid condition: \"x\"");
    }

    #[test]
    fn an_error_stands_beside_the_code() {
        let of = |error| body(WaitResult { code: 1, error });
        assert_eq!(of(None), "{\"StatusCode\":1}\n");
        assert_eq!(of(Some("gone".to_owned())), "{\"Error\":{\"Message\":\"gone\"},\"StatusCode\":1}\n");
    }
}
