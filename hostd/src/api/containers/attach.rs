//! `POST /containers/{id}/attach` and `/resize`, `GET /containers/{id}/attach/ws`.

use axum::extract::{Path, Request, State as Extracted};
use axum::http::StatusCode;
use axum::response::Response;

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::stream::detach_keys::DetachKeys;
use crate::api::stream::{content_type, hijack, websocket};
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
    let attachment = daemon.engine.attach(&id, options(&params))?;
    let content_type = content_type(attachment.terminal, version);
    Ok(hijack::connect(request, attachment, content_type, keys))
}

/// The same over a WebSocket, for clients in browsers.
pub(in crate::api) async fn attach_websocket(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
    request: Request,
) -> ApiResult<Response> {
    let keys = DetachKeys::parse(params.text("detachKeys"))?;
    daemon.engine.container(&id)?;
    let upgrade = websocket::Upgrade::asked_for(request)?;
    let attachment = daemon.engine.attach(&id, options(&params))?;
    Ok(upgrade.connect(attachment, keys))
}

fn options(params: &Params) -> AttachOptions {
    AttachOptions {
        stdin: params.flag("stdin"),
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        logs: params.flag("logs"),
        stream: params.flag("stream"),
    }
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
    let number = |name: &str, what: &str| {
        let text = params.text(name).unwrap_or_default();
        text.parse::<u16>().map_err(|error| {
            let too_large = *error.kind() == std::num::IntErrorKind::PosOverflow;
            let problem = if too_large { "value out of range" } else { "invalid syntax" };
            ApiError::invalid(format!("invalid resize {what} \"{text}\": {problem}"))
        })
    };
    Ok(TerminalSize { rows: number("h", "height")?, columns: number("w", "width")? })
}
