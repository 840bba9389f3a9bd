//! `GET /events`: the event bus as a stream of JSON objects, one a line.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State as Extracted;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::State;
use super::error::ApiResult;
use super::filters::Filters;
use super::params::Params;
use super::time;
use crate::engine::{Event, EventKind, Heard, Listener};

/// The last eight name kinds of objects that Berth has none of, or none yet: what asks for them hears nothing.
const FILTERS: [&str; 14] = [
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "scope",
    "type",
    "config",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "volume",
];

pub(super) async fn events(Extracted(daemon): State, params: Params) -> ApiResult<Response> {
    let now = Timestamp::now();
    let filters = params.filters()?;
    filters.allow(&FILTERS, &[])?;
    let until = time::point("until", params.text("until"), now)?;
    let since = time::point("since", params.text("since"), now)?;
    // As Docker: an end without a beginning means from as long ago as is remembered.
    let since = since.or(until.map(|_| Timestamp::UNIX_EPOCH));
    let stream = EventStream { listener: daemon.engine.events().listen(since), filters, until };
    let lines = stream::unfold(stream, async |mut stream| {
        let line = Ok::<Bytes, Infallible>(stream.next().await?);
        Some((line, stream))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

/// What one client hears.
struct EventStream {
    listener: Listener,
    filters: Filters,
    until: Option<Timestamp>,
}

impl EventStream {
    /// The next line, or nothing once the time is up.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let heard = tokio::select! {
                // What there is already comes before the end.
                biased;
                heard = self.listener.next() => heard,
                () = sleep_until(self.until) => return None,
            };
            let object = match heard {
                Heard::Event(event) if self.until.is_some_and(|until| event.time > until) => return None,
                Heard::Event(event) if fits(&event, &self.filters) => encode(&event),
                Heard::Event(_) => continue,
                Heard::Missed(count) => missed(count),
            };
            return Some(format!("{object}\n").into());
        }
    }
}

async fn sleep_until(until: Option<Timestamp>) {
    let Some(until) = until else { return std::future::pending().await };
    // A time that has passed is now.
    let left = until.duration_since(Timestamp::now()).try_into().unwrap_or_default();
    tokio::time::sleep(left).await;
}

/// Docker's shape, the fields of old clients (`status`, `id`, `from`) included.
fn encode(event: &Event) -> Value {
    let Event { kind, action, actor, time } = event;
    let mut object = json!({
        "Type": kind.name(),
        "Action": action,
        "Actor": { "ID": actor.id, "Attributes": actor.attributes },
        "scope": "local",
        "time": time.as_second(),
        "timeNano": i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX),
    });
    if *kind != EventKind::Daemon {
        object["status"] = json!(action);
        object["id"] = json!(actor.id);
    }
    if let (EventKind::Container, Some(image)) = (kind, actor.attributes.get("image")) {
        object["from"] = json!(image);
    }
    object
}

/// A reader that is too slow is told so in a way that every client can read.
fn missed(count: u64) -> Value {
    let attributes = [("count".to_owned(), count.to_string())].into();
    encode(&Event {
        kind: EventKind::Daemon,
        action: "events_missed".to_owned(),
        actor: crate::engine::Actor { id: String::new(), attributes },
        time: Timestamp::now(),
    })
}

fn fits(event: &Event, filters: &Filters) -> bool {
    let (id, attributes) = (event.actor.id.as_str(), &event.actor.attributes);
    let name = attributes.get("name").map_or("", String::as_str);
    // Objects are meant by their id, their name, or the beginning of either.
    let object = |filter| filters.any(filter, |wanted| id.starts_with(wanted) || name.starts_with(wanted));
    filters.any("event", |wanted| is_action(&event.action, wanted))
        && filters.any("type", |wanted| wanted == event.kind.name())
        && filters.any("scope", |wanted| wanted == "local")
        && filters.labels_fit(attributes)
        && ["container", "daemon", "config", "network", "node", "plugin", "secret", "service", "volume"]
            .into_iter()
            .all(object)
        && filters.any("image", |wanted| is_of_image(event, wanted))
}

/// `exec_start` means `exec_start: sh` too.
fn is_action(action: &str, wanted: &str) -> bool {
    action == wanted || action.split_once(':').is_some_and(|(verb, _)| verb == wanted)
}

/// An image's own events, and those of containers made of it; with or without tag.
fn is_of_image(event: &Event, wanted: &str) -> bool {
    let attribute = if event.kind == EventKind::Image { "name" } else { "image" };
    let named = event.actor.attributes.get(attribute).map_or("", String::as_str);
    let names = [event.actor.id.as_str(), named];
    names.iter().any(|name| *name == wanted || without_tag(name) == wanted)
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Actor;

    fn event(kind: EventKind, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let actor = Actor { id: id.to_owned(), attributes: attributes.collect() };
        Event {
            kind,
            action: action.to_owned(),
            actor,
            time: Timestamp::from_nanosecond(1_700_000_000_000_000_001).unwrap(),
        }
    }

    fn container(action: &str) -> Event {
        let attributes = [("image", "busybox:1"), ("name", "web"), ("tier", "front")];
        event(EventKind::Container, action, "abcdef", &attributes)
    }

    #[test]
    fn an_event_has_dockers_fields_and_the_old_ones() {
        let expected = json!({
            "status": "start", "id": "abcdef", "from": "busybox:1",
            "Type": "container", "Action": "start",
            "Actor": {"ID": "abcdef", "Attributes": {"image": "busybox:1", "name": "web", "tier": "front"}},
            "scope": "local", "time": 1_700_000_000, "timeNano": 1_700_000_000_000_000_001_i64,
        });
        assert_eq!(encode(&container("start")), expected);
        assert_eq!(missed(7)["Actor"]["Attributes"]["count"], "7");
    }

    #[test]
    fn filters_choose_as_dockers_do() {
        let image = event(EventKind::Image, "tag", "sha256:aa", &[("name", "busybox:1")]);
        for (event, filters, expected) in [
            (&container("start"), json!({}), true),
            (&container("start"), json!({"container": ["web"]}), true),
            (&container("start"), json!({"container": ["abc"]}), true),
            (&container("start"), json!({"container": ["db"]}), false),
            (&container("start"), json!({"event": ["die", "start"]}), true),
            (&container("exec_start: sh -c x"), json!({"event": ["exec_start"]}), true),
            (&container("exec_start: sh -c x"), json!({"event": ["start"]}), false),
            (&container("start"), json!({"image": ["busybox"]}), true),
            (&container("start"), json!({"image": ["busybox:2"]}), false),
            (&container("start"), json!({"type": ["image"]}), false),
            (&container("start"), json!({"label": ["tier=front"]}), true),
            (&container("start"), json!({"label": ["tier=back"]}), false),
            (&container("start"), json!({"scope": ["swarm"]}), false),
            (&container("start"), json!({"volume": ["v"]}), false),
            (&image, json!({"image": ["busybox"]}), true),
            (&image, json!({"type": ["image"], "event": ["tag"]}), true),
        ] {
            let parsed = Filters::parse(&filters.to_string()).unwrap();
            assert_eq!(fits(event, &parsed), expected, "{} {filters}", event.action);
        }
    }
}
