//! Further processes in a container: create, start, inspect, resize.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State as Extracted};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::State;
use super::body::{decode, read_json};
use super::containers::{check_variable, terminal_size};
use super::error::{ApiError, ApiResult};
use super::params::Params;
use super::stream::detach_keys::DetachKeys;
use super::stream::{content_type, hijack};
use super::version::ApiVersion;
use crate::engine::{
    Attachment, EngineError, ErrorKind, ExecSpec, ExecStart, ExecView, Output, OutputStream, TerminalSize,
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateRequest {
    user: String,
    privileged: bool,
    tty: bool,
    /// Rows and columns.
    console_size: Option<[u16; 2]>,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    detach_keys: String,
    env: Vec<String>,
    working_dir: String,
    cmd: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartRequest {
    detach: bool,
    tty: bool,
    /// Rows and columns.
    console_size: Option<[u16; 2]>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecInspect {
    #[serde(rename = "ID")]
    id: String,
    running: bool,
    exit_code: Option<i64>,
    process_config: ProcessConfig,
    open_stdin: bool,
    open_stderr: bool,
    open_stdout: bool,
    can_remove: bool,
    #[serde(rename = "ContainerID")]
    container_id: String,
    /// As bytes of Go's have JSON.
    detach_keys: String,
    /// As the machine's kernel numbers it.
    pid: u32,
}

#[derive(Debug, Serialize)]
struct ProcessConfig {
    tty: bool,
    entrypoint: String,
    arguments: Vec<String>,
    privileged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

pub(super) async fn create(
    Extracted(daemon): State,
    Path(id): Path<String>,
    request: Request,
) -> ApiResult<(StatusCode, Json<Created>)> {
    let (head, body) = request.into_parts();
    let body: Map<String, Value> = read_json(&head.headers, body).await?.unwrap_or_default();
    let request: CreateRequest = decode(&body)?;
    let exec_id = daemon.engine.exec_create(&id, spec(request)?).await?;
    Ok((StatusCode::CREATED, Json(Created { id: exec_id })))
}

fn spec(request: CreateRequest) -> ApiResult<ExecSpec> {
    if request.cmd.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    request.env.iter().try_for_each(|entry| check_variable(entry))?;
    let detach_keys = Some(request.detach_keys.as_str()).filter(|keys| !keys.is_empty());
    let detach_keys = detach_keys.map(|keys| DetachKeys::parse(Some(keys))).transpose()?;
    let non_empty = |text: String| (!text.is_empty()).then_some(text);
    Ok(ExecSpec {
        args: request.cmd,
        env: request.env,
        working_directory: non_empty(request.working_dir),
        user: non_empty(request.user),
        privileged: request.privileged,
        terminal: request.tty,
        terminal_size: size(request.console_size),
        attach_stdin: request.attach_stdin,
        attach_stdout: request.attach_stdout,
        attach_stderr: request.attach_stderr,
        detach_keys: detach_keys.map(|keys| keys.as_bytes().to_vec()).unwrap_or_default(),
    })
}

fn size(console: Option<[u16; 2]>) -> Option<TerminalSize> {
    let known = console.filter(|[rows, columns]| *rows > 0 && *columns > 0);
    known.map(|[rows, columns]| TerminalSize { rows, columns })
}

pub(super) async fn start(
    Extracted(daemon): State,
    Path(exec_id): Path<String>,
    version: ApiVersion,
    request: Request,
) -> ApiResult<Response> {
    let (head, body) = request.into_parts();
    let body: StartRequest = decode(&read_json(&head.headers, body).await?.unwrap_or_default())?;
    let how = ExecStart { detach: body.detach, terminal_size: size(body.console_size) };
    let keys = DetachKeys::of(daemon.engine.exec(&exec_id)?.spec.detach_keys);
    let started = daemon.engine.exec_start(&exec_id, how).await;
    let attachment = match started {
        Ok(None) => return Ok(StatusCode::OK.into_response()),
        Ok(Some(attachment)) => attachment,
        Err(error) if is_told_in_the_stream(&error, body.detach) => last_words(&error, body.tty),
        Err(error) => return Err(error.into()),
    };
    let content_type = content_type(attachment.terminal, version);
    Ok(hijack::connect(Request::from_parts(head, Body::empty()), attachment, content_type, keys))
}

/// Docker has taken the connection over by the time the process fails to start, so that clients expect the reason in
/// the stream and the exit code (126, 127) in the exec's inspection.
fn is_told_in_the_stream(error: &EngineError, detach: bool) -> bool {
    !detach && error.kind == ErrorKind::StartFailed
}

fn last_words(error: &EngineError, terminal: bool) -> Attachment {
    let (sender, output) = mpsc::channel(1);
    let bytes = Bytes::from(format!("{}\r\n", error.message));
    sender.try_send(Output { stream: OutputStream::Stdout, bytes }).expect("a new channel has room for one");
    Attachment { terminal, output, input: None, notice: None }
}

pub(super) async fn inspect(
    Extracted(daemon): State,
    Path(exec_id): Path<String>,
) -> ApiResult<Json<ExecInspect>> {
    Ok(Json(daemon.engine.exec(&exec_id)?.into()))
}

pub(super) async fn resize(
    Extracted(daemon): State,
    Path(exec_id): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    daemon.engine.exec_resize(&exec_id, terminal_size(&params)?).await?;
    Ok(StatusCode::OK)
}

impl From<ExecView> for ExecInspect {
    fn from(view: ExecView) -> Self {
        let detach_keys = STANDARD.encode(&view.spec.detach_keys);
        let mut args = view.spec.args.into_iter();
        Self {
            id: view.id,
            running: view.running,
            exit_code: view.exit_code,
            process_config: ProcessConfig {
                tty: view.spec.terminal,
                entrypoint: args.next().unwrap_or_default(),
                arguments: args.collect(),
                privileged: view.spec.privileged,
                user: view.spec.user,
            },
            open_stdin: view.spec.attach_stdin,
            open_stderr: view.spec.attach_stderr,
            open_stdout: view.spec.attach_stdout,
            can_remove: !view.running && view.exit_code.is_some(),
            container_id: view.container_id.to_string(),
            detach_keys,
            pid: view.pid.unwrap_or(0),
        }
    }
}
