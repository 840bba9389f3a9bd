//! Start, stop, restart, kill, rename, remove.

use axum::extract::{Path, State as Extracted};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{State, timeline};
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::engine::{Outcome, RemoveOptions, Signal, Started, StopOptions};

pub(in crate::api) async fn start(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<Response> {
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
    params.refuse("DELETE /containers/{id}", &["link"])?;
    let how = RemoveOptions { force: params.flag("force") };
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
