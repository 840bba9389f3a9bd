//! `GET /containers/json`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use axum::Json;
use axum::extract::State as Extracted;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{State, mounts, network, status};
use crate::api::Daemon;
use crate::api::error::{ApiError, ApiResult};
use crate::api::filters::{Filters, NamePattern};
use crate::api::params::Params;
use crate::engine::{ContainerSpec, ContainerState, ContainerView};
use crate::image::{Image, ImageId};

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];
const ISOLATIONS: [&str; 2] = ["machine", "default"];
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
    ports: Vec<Value>,
    labels: BTreeMap<String, String>,
    state: &'static str,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(rename = "SizeRootFs", skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    host_config: Value,
    network_settings: Value,
    mounts: Vec<Value>,
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
    healths: Vec<String>,
    exposed: Vec<PortRange>,
    published: Vec<PortRange>,
    /// Names of networks.
    networks: Vec<String>,
    /// Whether the filters that are alike for all containers let any through.
    possible: bool,
    names: Vec<NamePattern>,
    ids: Vec<NamePattern>,
    exit_codes: Vec<i64>,
    /// Names of volumes, and places where anything is mounted.
    volumes: Vec<String>,
    ancestors: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    labels: Filters,
}

impl Selection {
    fn new(filters: &Filters, daemon: &Daemon) -> ApiResult<Self> {
        filters.allow(&FILTERS, &[])?;
        let states = filters.values("status").to_vec();
        if let Some(state) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
            return Err(ApiError::invalid(format!("invalid filter 'status={state}'")));
        }
        let healths = filters.values("health").to_vec();
        if let Some(health) = healths.iter().find(|health| !HEALTH.contains(&health.as_str())) {
            return Err(ApiError::invalid(format!("invalid filter 'health={health}'")));
        }
        let created = |name: &str| {
            let container = filters.values(name).first().map(|container| daemon.engine.container(container));
            Ok::<_, ApiError>(container.transpose()?.map(|view| view.created_at))
        };
        Ok(Self {
            states,
            healths,
            exposed: port_ranges(filters.values("expose"))?,
            published: port_ranges(filters.values("publish"))?,
            networks: networks(filters.values("network"), daemon),
            possible: is_possible(filters)?,
            names: patterns(filters.values("name"))?,
            ids: patterns(filters.values("id"))?,
            exit_codes: exit_codes(filters.values("exited"))?,
            volumes: filters.values("volume").to_vec(),
            ancestors: filters.values("ancestor").to_vec(),
            before: created("before")?,
            since: created("since")?,
            labels: filters.clone(),
        })
    }

    /// Whether the container fits every filter but its image's.
    fn fits(&self, view: &ContainerView) -> bool {
        let state = view.state.name();
        self.possible
            && any(&self.healths, |wanted| wanted == health(view))
            && any(&self.exposed, |range| view.spec.exposed_ports.iter().any(|port| range.has(port)))
            && any(&self.published, |range| view.published_ports().any(|port| range.has(&port)))
            && any(&self.networks, |wanted| network::names(view).any(|name| name == *wanted))
            && (self.states.is_empty() || self.states.iter().any(|wanted| wanted == state))
            && any(&self.names, |name| name.fits(&view.name) || name.fits(&format!("/{}", view.name)))
            && any(&self.ids, |id| id.fits(view.id.as_str()))
            && any(&self.volumes, |wanted| mounts::has(view, wanted))
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

/// No container is a task of a swarm.
fn is_possible(filters: &Filters) -> ApiResult<bool> {
    Ok(filters.flag("is-task")? != Some(true)
        && filters.any("isolation", |isolation| ISOLATIONS.contains(&isolation.as_str())))
}

/// Docker's word for it.
fn health(view: &ContainerView) -> &'static str {
    view.health.as_ref().map_or("none", |health| health.status.name())
}

/// "80", "80-90", "80/udp".
struct PortRange {
    ports: RangeInclusive<u16>,
    protocol: String,
}

impl PortRange {
    fn parse(text: &str) -> ApiResult<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => {
                Ok(Self { ports: first..=last, protocol: protocol.to_owned() })
            }
            _ => Err(ApiError::invalid(format!("invalid port in filter: \"{text}\""))),
        }
    }

    /// `port` as images expose it: "80/tcp".
    fn has(&self, port: &str) -> bool {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        protocol == self.protocol && number.parse().is_ok_and(|number: u16| self.ports.contains(&number))
    }
}

fn port_ranges(texts: &[String]) -> ApiResult<Vec<PortRange>> {
    texts.iter().map(|text| PortRange::parse(text)).collect()
}

/// By their names, whatever the client calls them.
fn networks(words: &[String], daemon: &Daemon) -> Vec<String> {
    let name = |word: &String| {
        daemon.engine.network(word).map_or_else(|_unknown| word.clone(), |view| view.network.name)
    };
    words.iter().map(name).collect()
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
        ports: network::port_list(view),
        labels: view.spec.labels.clone(),
        state: view.state.name(),
        status: status::with_health(view, now),
        host_config: json!({ "NetworkMode": network::mode(view) }),
        network_settings: network::summary(view),
        mounts: mounts::points(view),
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
    fn a_port_filter_is_a_number_or_a_range() {
        let has = |range: &str, port: &str| PortRange::parse(range).unwrap().has(port);
        assert!(has("80", "80/tcp") && has("80-90/udp", "85/udp") && has("443/tcp", "443"));
        assert!(!has("80", "80/udp") && !has("80-90", "91/tcp"));
        assert!(PortRange::parse("90-80").is_err() && PortRange::parse("http").is_err());
    }

    #[test]
    fn filters_that_no_container_can_fit_let_none_through() {
        let possible = |json: &str| is_possible(&Filters::parse(json).unwrap());
        assert_eq!(possible("{}"), Ok(true));
        assert_eq!(possible(r#"{"is-task":["false"]}"#), Ok(true));
        assert_eq!(possible(r#"{"is-task":["true"]}"#), Ok(false));
        assert!(port_ranges(&["x".to_owned()]).is_err());
    }

    #[test]
    fn an_exit_code_filter_is_a_number() {
        assert_eq!(exit_codes(&["137".to_owned()]), Ok(vec![137]));
        assert_eq!(exit_codes(&["x".to_owned()]).unwrap_err().message, "invalid filter 'exited=x'");
    }
}
