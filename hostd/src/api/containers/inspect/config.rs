//! The `Config` of an inspected container: what was asked for, completed with what the image says.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::{ContainerView, Healthcheck};

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, Value>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Vec<String>>,
    image: String,
    volumes: Option<BTreeMap<String, Value>>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    on_build: Option<()>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Value>,
}

impl From<&ContainerView> for Config {
    fn from(view: &ContainerView) -> Self {
        let spec = &view.spec;
        Self {
            hostname: view.hostname.clone(),
            domainname: spec.domainname.clone().unwrap_or_default(),
            user: spec.user.clone().unwrap_or_default(),
            attach_stdin: spec.stdio.attach_stdin,
            attach_stdout: spec.stdio.attach_stdout,
            attach_stderr: spec.stdio.attach_stderr,
            exposed_ports: spec.exposed_ports.iter().map(|port| (port.clone(), json!({}))).collect(),
            tty: spec.stdio.terminal,
            open_stdin: spec.stdio.open_stdin,
            stdin_once: spec.stdio.stdin_once,
            env: spec.env.clone(),
            cmd: spec.command.clone(),
            image: spec.image.clone(),
            volumes: volumes(&spec.mounts.own_volumes),
            working_dir: spec.working_directory.clone().unwrap_or_default(),
            entrypoint: spec.entrypoint.clone(),
            on_build: None,
            labels: spec.labels.clone(),
            stop_signal: spec.stop_signal.map(|signal| signal.to_string()),
            stop_timeout: spec.stop_timeout_s,
            healthcheck: spec.healthcheck.as_ref().map(Healthcheck::document),
        }
    }
}

/// A set, as Docker spells it; null if it is empty.
fn volumes(own: &BTreeSet<String>) -> Option<BTreeMap<String, Value>> {
    (!own.is_empty()).then(|| own.iter().map(|target| (target.clone(), json!({}))).collect())
}
