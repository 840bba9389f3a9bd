//! Start, stop, restart, kill, rename, remove.

use axum::extract::{Path, State as Extracted};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{State, timeline};
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::engine::{Outcome, RemoveOptions, Signal, Started, StopOptions};

/// Docker's.
const MAX_EMPTY_BODY_BYTES: u64 = 7;

pub(in crate::api) async fn start(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> ApiResult<Response> {
    check_no_body(&headers)?;
    if params.text("checkpoint").or(params.text("checkpoint-dir")).is_some() {
        return Err(ApiError::not_supported("starting from a checkpoint is not supported by berth yet"));
    }
    Ok(match daemon.engine.start(&id).await? {
        Started::Now(timeline) => {
            let header = [(timeline::HEADER, timeline::header_value(&timeline))];
            (StatusCode::NO_CONTENT, header).into_response()
        }
        Started::Already => StatusCode::NOT_MODIFIED.into_response(),
    })
}

/// What was said here once is said at creation; `{}` and "null" say nothing.
fn check_no_body(headers: &HeaderMap) -> ApiResult<()> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.unwrap_or(0) > MAX_EMPTY_BODY_BYTES || headers.contains_key(header::TRANSFER_ENCODING) {
        let message = "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

pub(in crate::api) async fn stop(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    Ok(status(daemon.engine.stop(&id, stop_options(&params)?).await?))
}

pub(in crate::api) async fn restart(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    daemon.engine.restart(&id, stop_options(&params)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::api) async fn kill(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    let killed = async {
        let signal = signal(&params)?.unwrap_or(Signal::KILL);
        Ok::<_, ApiError>(daemon.engine.kill(&id, signal).await?)
    };
    match killed.await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(ApiError { status, message }) => {
            Err(ApiError { status, message: format!("cannot kill container: {id}: {message}") })
        }
    }
}

pub(in crate::api) async fn rename(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    daemon.engine.rename(&id, params.text("name").unwrap_or_default()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::api) async fn remove(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    if params.flag("link") {
        daemon.engine.container(&id)?;
        return Err(ApiError::conflict("Conflict, cannot remove the default link name of the container"));
    }
    let how = RemoveOptions { force: params.flag("force"), volumes: params.flag("v") };
    daemon.engine.remove(&id, how).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::api) async fn pause(Extracted(daemon): State, Path(id): Path<String>) -> ApiResult<StatusCode> {
    daemon.engine.pause(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::api) async fn unpause(
    Extracted(daemon): State,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    daemon.engine.unpause(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn stop_options(params: &Params) -> ApiResult<StopOptions> {
    Ok(StopOptions { signal: signal(params)?, timeout_s: params.number("t")? })
}

fn signal(params: &Params) -> ApiResult<Option<Signal>> {
    Ok(params.text("signal").map(str::parse).transpose()?)
}

fn status(outcome: Outcome) -> StatusCode {
    match outcome {
        Outcome::Changed => StatusCode::NO_CONTENT,
        Outcome::AlreadySo => StatusCode::NOT_MODIFIED,
    }
}
