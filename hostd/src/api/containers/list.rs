//! `GET /containers/json`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State as Extracted;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{State, status};
use crate::api::Daemon;
use crate::api::error::{ApiError, ApiResult};
use crate::api::filters::{Filters, NamePattern};
use crate::api::params::Params;
use crate::engine::{ContainerSpec, ContainerState, ContainerView};
use crate::image::{Image, ImageId};

const FILTERS: [&str; 8] = ["ancestor", "before", "exited", "id", "label", "name", "since", "status"];
const LATER: [&str; 7] = ["expose", "health", "is-task", "isolation", "network", "publish", "volume"];
const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ContainerSummary {
    id: String,
    names: [String; 1],
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    /// Unix seconds.
    created: i64,
    ports: [(); 0],
    labels: BTreeMap<String, String>,
    state: &'static str,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(rename = "SizeRootFs", skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    host_config: Value,
    network_settings: Value,
    mounts: [(); 0],
}

pub(in crate::api) async fn list(
    Extracted(daemon): State,
    params: Params,
) -> ApiResult<Json<Vec<ContainerSummary>>> {
    let limit = params
        .number::<i64>("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let selection = Selection::new(&params.filters()?, &daemon)?;
    let show_all = params.flag("all") || limit.is_some() || !selection.states.is_empty();
    let mut views = daemon.engine.containers();
    views.retain(|view| (show_all || view.state.is_up()) && selection.fits(view));
    let images = images(&daemon).await?;
    views.retain(|view| selection.descends(view, &images));
    views.truncate(limit.unwrap_or(usize::MAX));
    let now = Timestamp::now();
    let with_size = params.flag("size");
    let written_bytes = |view: &ContainerView| with_size.then(|| daemon.engine.written_bytes(&view.id));
    Ok(Json(views.iter().map(|view| summary(view, written_bytes(view), &images, now)).collect()))
}

async fn images(daemon: &Daemon) -> ApiResult<Vec<Image>> {
    let store = daemon.engine.images().clone();
    Ok(tokio::task::spawn_blocking(move || store.list()).await??)
}

/// The filters, parsed.
struct Selection {
    states: Vec<String>,
    names: Vec<NamePattern>,
    ids: Vec<NamePattern>,
    exit_codes: Vec<i64>,
    ancestors: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    labels: Filters,
}

impl Selection {
    fn new(filters: &Filters, daemon: &Daemon) -> ApiResult<Self> {
        filters.allow(&FILTERS, &LATER)?;
        let states = filters.values("status").to_vec();
        if let Some(state) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
            return Err(ApiError::invalid(format!("invalid filter 'status={state}'")));
        }
        let created = |name: &str| {
            let container = filters.values(name).first().map(|container| daemon.engine.container(container));
            Ok::<_, ApiError>(container.transpose()?.map(|view| view.created_at))
        };
        Ok(Self {
            states,
            names: patterns(filters.values("name"))?,
            ids: patterns(filters.values("id"))?,
            exit_codes: exit_codes(filters.values("exited"))?,
            ancestors: filters.values("ancestor").to_vec(),
            before: created("before")?,
            since: created("since")?,
            labels: filters.clone(),
        })
    }

    /// Whether the container fits every filter but its image's.
    fn fits(&self, view: &ContainerView) -> bool {
        let state = view.state.name();
        (self.states.is_empty() || self.states.iter().any(|wanted| wanted == state))
            && any(&self.names, |name| name.fits(&view.name) || name.fits(&format!("/{}", view.name)))
            && any(&self.ids, |id| id.fits(view.id.as_str()))
            && any(&self.exit_codes, |code| exit_code(&view.state) == Some(*code))
            && self.before.is_none_or(|time| view.created_at < time)
            && self.since.is_none_or(|time| view.created_at > time)
            && self.labels.labels_fit(&view.spec.labels)
    }

    /// Whether the container's image is one of those asked for, by name or by id.
    fn descends(&self, view: &ContainerView, images: &[Image]) -> bool {
        any(&self.ancestors, |wanted| {
            view.spec.image == *wanted
                || id_begins(view.image_id, wanted)
                || image(view.image_id, images).is_some_and(|image| is_named(image, wanted))
        })
    }
}

fn any<T>(wanted: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

fn patterns(texts: &[String]) -> ApiResult<Vec<NamePattern>> {
    texts.iter().map(|text| NamePattern::parse(text)).collect()
}

fn exit_codes(texts: &[String]) -> ApiResult<Vec<i64>> {
    let parse = |text: &String| {
        text.parse().map_err(|_| ApiError::invalid(format!("invalid filter 'exited={text}'")))
    };
    texts.iter().map(parse).collect()
}

fn exit_code(state: &ContainerState) -> Option<i64> {
    match state {
        ContainerState::Exited(exit) => Some(exit.code),
        _ => None,
    }
}

fn image(id: ImageId, images: &[Image]) -> Option<&Image> {
    images.iter().find(|image| image.id == id)
}

fn id_begins(id: ImageId, text: &str) -> bool {
    let id = id.to_string();
    let hex = text.trim_start_matches("sha256:");
    !hex.is_empty() && id.trim_start_matches("sha256:").starts_with(hex)
}

/// "busybox" means "busybox:latest".
fn is_named(image: &Image, name: &str) -> bool {
    image.names.iter().any(|full| full == name || full.strip_suffix(":latest") == Some(name))
}

/// One container of the list; its sizes are told if it is known what it wrote.
pub(in crate::api) fn summary(
    view: &ContainerView,
    written_bytes: Option<u64>,
    images: &[Image],
    now: Timestamp,
) -> ContainerSummary {
    let image_bytes = image(view.image_id, images).map_or(0, |image| image.size_bytes);
    ContainerSummary {
        size_rw: written_bytes,
        size_root_fs: written_bytes.map(|bytes| bytes + image_bytes),
        id: view.id.to_string(),
        names: [format!("/{}", view.name)],
        image: image_column(view, images),
        image_id: view.image_id.to_string(),
        command: command_column(&view.spec),
        created: view.created_at.as_second(),
        ports: [],
        labels: view.spec.labels.clone(),
        state: view.state.name(),
        status: status::with_health(view, now),
        host_config: json!({ "NetworkMode": "none" }),
        network_settings: json!({ "Networks": { "none": super::inspect::none_endpoint() } }),
        mounts: [],
    }
}

/// The image as it was named at creation, or its id once the name means another one.
fn image_column(view: &ContainerView, images: &[Image]) -> String {
    let named = &view.spec.image;
    let still = image(view.image_id, images).is_some_and(|image| is_named(image, named));
    if still || id_begins(view.image_id, named) { named.clone() } else { view.image_id.to_string() }
}

/// Program and arguments; those with a space in quotes.
fn command_column(spec: &ContainerSpec) -> String {
    let args = spec.args();
    let quoted = args
        .iter()
        .enumerate()
        .map(|(index, arg)| if index > 0 && arg.contains(' ') { format!("'{arg}'") } else { arg.clone() });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_with_spaces_are_quoted() {
        let words = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
        let spec = ContainerSpec { command: words(&["sh", "-c", "echo hi"]), ..ContainerSpec::default() };
        assert_eq!(command_column(&spec), "sh -c 'echo hi'");
    }

    #[test]
    fn an_exit_code_filter_is_a_number() {
        assert_eq!(exit_codes(&["137".to_owned()]), Ok(vec![137]));
        assert_eq!(exit_codes(&["x".to_owned()]).unwrap_err().message, "invalid filter 'exited=x'");
    }
}
