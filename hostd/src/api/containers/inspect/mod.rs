//! `GET /containers/{id}/json`: everything about one container, in the shape clients expect, empty parts included.

mod config;
mod host_config;
mod state;

use std::path::PathBuf;

use axum::Json;
use axum::extract::{Path, State as Extracted};
use serde::Serialize;
use serde_json::{Value, json};

use self::config::Config;
use self::host_config::HostConfig;
use self::state::State;
use super::mounts;
use super::network::{self, NetworkSettings};
use super::timeline::{Phase, phases};
use crate::accelerator;
use crate::api::error::ApiResult;
use crate::api::params::Params;
use crate::engine::{ContainerView, LogDriver};

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ContainerInspect {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: State,
    image: String,
    resolv_conf_path: &'static str,
    hostname_path: &'static str,
    hosts_path: &'static str,
    log_path: PathBuf,
    name: String,
    restart_count: u32,
    driver: &'static str,
    platform: &'static str,
    mount_label: &'static str,
    process_label: &'static str,
    app_armor_profile: &'static str,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: HostConfig,
    graph_driver: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(rename = "SizeRootFs", skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<Value>,
    config: Config,
    network_settings: NetworkSettings,
    berth: Berth,
}

/// What only Berth has to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Berth {
    accelerator: &'static str,
    /// What the container shares a machine with: nothing. `HostConfig` has Windows' words for it and no other.
    isolation: &'static str,
    /// Of the last start, in order; null if there was none.
    start_timeline: Option<[Phase; 5]>,
}

pub(in crate::api) async fn inspect(
    Extracted(daemon): super::State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<Json<ContainerInspect>> {
    let accelerator = accelerator::name(daemon.accelerator.accelerator);
    let view = daemon.engine.container(&id)?;
    let mut reply = reply(&view, accelerator);
    if params.flag("size") {
        let written_bytes = daemon.engine.written_bytes(&view.id);
        let store = daemon.engine.images().clone();
        let image = tokio::task::spawn_blocking(move || store.resolve(&view.image_id.to_string())).await?;
        let image_bytes = image.map_or(0, |image| image.size_bytes);
        (reply.size_rw, reply.size_root_fs) = (Some(written_bytes), Some(written_bytes + image_bytes));
    }
    Ok(Json(reply))
}

fn reply(view: &ContainerView, accelerator: &'static str) -> ContainerInspect {
    let mut args = view.spec.args().into_iter();
    ContainerInspect {
        id: view.id.to_string(),
        created: view.created_at.to_string(),
        path: args.next().unwrap_or_default(),
        args: args.collect(),
        state: State::from(&view.state).with_health(view.health.as_ref()).with_networks(&view.endpoints),
        image: view.image_id.to_string(),
        resolv_conf_path: "",
        hostname_path: "",
        hosts_path: "",
        log_path: log_path(view),
        name: format!("/{}", view.name),
        restart_count: view.restart_count,
        driver: "erofs",
        platform: "linux",
        mount_label: "",
        process_label: "",
        app_armor_profile: "",
        exec_ids: (!view.exec_ids.is_empty()).then(|| view.exec_ids.clone()),
        host_config: HostConfig::of(view),
        graph_driver: json!({ "Data": null, "Name": "erofs" }),
        size_rw: None,
        size_root_fs: None,
        mounts: mounts::points(view),
        config: Config::from(view),
        network_settings: network::settings(view),
        berth: Berth {
            accelerator,
            isolation: "machine",
            start_timeline: view.timeline.as_ref().map(phases),
        },
    }
}

/// Docker shows only files that others may read.
fn log_path(view: &ContainerView) -> PathBuf {
    let is_readable = view.spec.log.driver == LogDriver::JsonFile;
    view.log_path.clone().filter(|_path| is_readable).unwrap_or_default()
}

#[cfg(test)]
mod tests;
