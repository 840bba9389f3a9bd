//! `/containers/{id}/exec` and `/exec/...`: another process in a running container.

use serde::{Deserialize, Serialize};

use super::containers::with_size;
use super::request::Request;
use super::{Client, ClientError, Hijacked};
use crate::terminal::Size;

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ExecRequest {
    pub(crate) attach_stdin: bool,
    pub(crate) attach_stdout: bool,
    pub(crate) attach_stderr: bool,
    pub(crate) tty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) console_size: Option<[u16; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detach_keys: Option<String>,
    pub(crate) cmd: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) working_dir: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) privileged: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExecStart {
    detach: bool,
    tty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    console_size: Option<[u16; 2]>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecCreated {
    id: String,
}

/// `GET /exec/{id}/json`: no exit code while the process runs.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ExecState {
    pub(crate) running: bool,
    pub(crate) exit_code: Option<i64>,
}

impl Client {
    /// Returns the exec's id.
    pub(crate) async fn create_exec(
        &self,
        container: &str,
        body: &ExecRequest,
    ) -> Result<String, ClientError> {
        let request = Request::post(&["containers", container, "exec"]).with_json(body);
        self.send_for_json::<ExecCreated>(request).await.map(|created| created.id)
    }

    pub(crate) async fn start_exec_detached(&self, exec: &str, tty: bool) -> Result<(), ClientError> {
        let body = ExecStart { detach: true, tty, console_size: None };
        self.send_for_nothing(Request::post(&["exec", exec, "start"]).with_json(&body)).await
    }

    pub(crate) async fn start_exec(
        &self,
        exec: &str,
        tty: bool,
        console_size: Option<[u16; 2]>,
    ) -> Result<Hijacked, ClientError> {
        let body = ExecStart { detach: false, tty, console_size };
        self.hijack(Request::post(&["exec", exec, "start"]).with_json(&body)).await
    }

    pub(crate) async fn inspect_exec(&self, exec: &str) -> Result<ExecState, ClientError> {
        self.send_for_json(Request::get(&["exec", exec, "json"])).await
    }

    pub(crate) async fn resize_exec(&self, exec: &str, size: Size) -> Result<(), ClientError> {
        self.send_for_nothing(with_size(Request::post(&["exec", exec, "resize"]), size)).await
    }
}
