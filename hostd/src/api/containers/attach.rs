//! `POST /containers/{id}/attach` and `/resize`.

use axum::extract::{Path, Request, State as Extracted};
use axum::http::StatusCode;
use axum::response::Response;

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::stream::detach_keys::DetachKeys;
use crate::api::stream::{content_type, hijack};
use crate::api::version::ApiVersion;
use crate::engine::{AttachOptions, TerminalSize};

pub(in crate::api) async fn attach(
    Extracted(daemon): State,
    Path(id): Path<String>,
    version: ApiVersion,
    params: Params,
    request: Request,
) -> ApiResult<Response> {
    let keys = DetachKeys::parse(params.text("detachKeys"))?;
    let what = AttachOptions {
        stdin: params.flag("stdin"),
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        logs: params.flag("logs"),
        stream: params.flag("stream"),
    };
    let attachment = daemon.engine.attach(&id, what)?;
    let content_type = content_type(attachment.terminal, version);
    Ok(hijack::connect(request, attachment, content_type, keys))
}

pub(in crate::api) async fn resize(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    daemon.engine.resize(&id, terminal_size(&params)?).await?;
    Ok(StatusCode::OK)
}

/// # Errors
/// A height or width that is missing or out of range.
pub(in crate::api) fn terminal_size(params: &Params) -> ApiResult<TerminalSize> {
    let missing = |name: &str| ApiError::invalid(format!("invalid value for {name}: \"\""));
    let rows = params.number("h")?.ok_or_else(|| missing("h"))?;
    let columns = params.number("w")?.ok_or_else(|| missing("w"))?;
    Ok(TerminalSize { rows, columns })
}
