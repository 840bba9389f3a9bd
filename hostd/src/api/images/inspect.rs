//! `GET /images/{name}/json` and `/history`.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State as Extracted};
use serde::Serialize;
use serde_json::{Value, json};

use super::{State, platform, with_store};
use crate::api::error::ApiResult;
use crate::api::params::Params;
use crate::api::time::NEVER;
use crate::image::manifest::RawDocument;
use crate::image::{History, Image, ImageConfig, Reference, ResolveError};

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ImageInspect {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: &'static str,
    comment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    docker_version: &'static str,
    author: String,
    config: Config,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    size: u64,
    graph_driver: Value,
    #[serde(rename = "RootFS")]
    root_fs: Value,
    metadata: Value,
    /// Only of images that have come with a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<Value>,
}

/// The image's configuration as the API shows it: with every key, empty or not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    hostname: &'static str,
    domainname: &'static str,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_ports: Option<Value>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Value>,
    image: &'static str,
    volumes: Option<Value>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    on_build: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct HistoryEntry {
    id: String,
    /// Unix seconds.
    created: i64,
    created_by: String,
    tags: Option<Vec<String>>,
    size: u64,
    comment: String,
}

pub(in crate::api) async fn inspect(
    Extracted(daemon): State,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult<Json<ImageInspect>> {
    params.refuse("GET /images/{name}/json", &["manifests"])?;
    let platform = platform::parse(&params)?;
    let (image, target) = with_store(&daemon, move |store| {
        let image = store.resolve_for(&name, platform.as_ref())?;
        let named = Reference::parse(&name).ok().map(|name| store.target(&name)).transpose()?.flatten();
        let target = match named {
            Some(target) => Some(target),
            None => store.manifests_of(&image.id)?.into_iter().next(),
        };
        Ok::<_, ResolveError>((image, target))
    })
    .await?;
    Ok(Json(ImageInspect { descriptor: target.as_ref().map(descriptor), ..image.into() }))
}

/// What the name stands for at its registry.
fn descriptor(target: &RawDocument) -> Value {
    json!({ "mediaType": target.media_type, "digest": target.digest, "size": target.content.len() })
}

pub(in crate::api) async fn history(
    Extracted(daemon): State,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult<Json<Vec<HistoryEntry>>> {
    let platform = platform::parse(&params)?;
    let (image, sizes) = with_store(&daemon, move |store| {
        let image = store.resolve_for(&name, platform.as_ref())?;
        let sizes = store.layer_sizes(&image.id)?;
        Ok::<_, ResolveError>((image, sizes))
    })
    .await?;
    Ok(Json(history_of(image, sizes)))
}

/// Newest first. Each step that made a layer has that layer's size; layers that no step tells of get one each.
fn history_of(image: Image, sizes: Vec<u64>) -> Vec<HistoryEntry> {
    let mut sizes = sizes.into_iter();
    let mut entries: Vec<HistoryEntry> = image.history.iter().map(HistoryEntry::from).collect();
    let with_layer = entries.iter_mut().zip(&image.history).filter(|(_, step)| !step.empty_layer);
    for (entry, _) in with_layer {
        entry.size = sizes.next().unwrap_or(0);
    }
    entries.extend(sizes.map(|size| HistoryEntry { size, ..HistoryEntry::from(&History::default()) }));
    entries.reverse();
    if let Some(newest) = entries.first_mut() {
        newest.id = image.id.to_string();
        newest.tags = (!image.names.is_empty()).then_some(image.names);
    }
    entries
}

impl From<&History> for HistoryEntry {
    fn from(entry: &History) -> Self {
        Self {
            id: "<missing>".to_owned(),
            created: entry.created.map_or(0, jiff::Timestamp::as_second),
            created_by: entry.created_by.clone(),
            tags: None,
            size: 0,
            comment: entry.comment.clone(),
        }
    }
}

impl From<Image> for ImageInspect {
    fn from(image: Image) -> Self {
        let comment = image.history.last().map(|entry| entry.comment.clone()).unwrap_or_default();
        let layers: Vec<String> = image.layers.iter().map(ToString::to_string).collect();
        let tagged_at = image.tagged_at.map_or_else(|| NEVER.to_owned(), |time| time.to_string());
        Self {
            id: image.id.to_string(),
            repo_tags: image.names,
            repo_digests: image.repo_digests,
            parent: "",
            comment,
            created: image.created.map(|time| time.to_string()),
            docker_version: "",
            author: image.author,
            config: image.config.into(),
            architecture: image.architecture,
            variant: image.variant,
            os: image.os,
            size: image.size_bytes,
            graph_driver: json!({ "Data": null, "Name": "erofs" }),
            root_fs: json!({ "Type": "layers", "Layers": layers }),
            metadata: json!({ "LastTagTime": tagged_at }),
            descriptor: None,
        }
    }
}

impl From<ImageConfig> for Config {
    fn from(config: ImageConfig) -> Self {
        Self {
            hostname: "",
            domainname: "",
            user: config.user,
            attach_stdin: false,
            attach_stdout: false,
            attach_stderr: false,
            exposed_ports: set(&config.exposed_ports),
            tty: false,
            open_stdin: false,
            stdin_once: false,
            env: config.env,
            cmd: config.cmd,
            healthcheck: config.healthcheck,
            image: "",
            volumes: set(&config.volumes),
            working_dir: config.working_dir,
            entrypoint: config.entrypoint,
            on_build: config.on_build,
            labels: (!config.labels.is_empty()).then_some(config.labels),
            stop_signal: config.stop_signal,
            stop_timeout: config.stop_timeout,
            shell: config.shell,
        }
    }
}

/// A set as Go's JSON has it: `{"80/tcp": {}}`; nothing if it is empty.
fn set(names: &BTreeSet<String>) -> Option<Value> {
    let object = || names.iter().map(|name| (name.clone(), json!({}))).collect();
    (!names.is_empty()).then(object)
}
