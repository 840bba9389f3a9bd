//! `POST /images/load`: an archive in, progress as a stream of JSON objects out.
//!
//! The status is decided by the first thing that happens: an archive that is refused before any progress was shown
//! answers as an error, one that fails later ends the stream with an `error` object.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Request, State as Extracted};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::image::{ImageStore, LoadProgress, LoadedImage};

/// Progress that waits for a slow client; more and the load waits with it.
const WAITING_EVENTS: usize = 64;

#[derive(Debug)]
enum Event {
    Progress(LoadProgress),
    Loaded(Vec<LoadedImage>),
    Failed(ApiError),
}

pub(in crate::api) async fn load(
    Extracted(daemon): State,
    params: Params,
    request: Request,
) -> ApiResult<Response> {
    if params.text("platform").is_some() {
        return Err(ApiError::not_supported("platform of POST /images/load is not supported by berth yet"));
    }
    let quiet = params.flag("quiet");
    let archive =
        StreamReader::new(request.into_body().into_data_stream().map_err(std::io::Error::other).boxed());
    let archive = SyncIoBridge::new(archive);
    let store = daemon.engine.images().clone();
    let (sender, mut events) = mpsc::channel(WAITING_EVENTS);
    tokio::task::spawn_blocking(move || run(&store, archive, quiet, &sender));
    match events.recv().await {
        Some(Event::Failed(error)) => Err(error),
        Some(first) => Ok(stream_from(first, events)),
        None => Err(ApiError::internal("loading the image ended without a result")),
    }
}

fn run(store: &ImageStore, archive: impl std::io::Read, quiet: bool, events: &mpsc::Sender<Event>) {
    // A client that no longer listens still gets its image: the archive may have arrived whole.
    let tell = |event| events.blocking_send(event).unwrap_or_default();
    let mut progress = |step| {
        if !quiet {
            tell(Event::Progress(step));
        }
    };
    let result = store.load(archive, &mut progress);
    tell(result.map_or_else(|error| Event::Failed(error.into()), Event::Loaded));
}

fn stream_from(first: Event, events: mpsc::Receiver<Event>) -> Response {
    let rest = stream::unfold(events, async |mut events| Some((events.recv().await?, events)));
    let lines = stream::iter([first]).chain(rest).map(|event| Ok::<Bytes, Infallible>(lines(&event)));
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

/// The objects that Docker's clients print for an event.
fn lines(event: &Event) -> Bytes {
    let objects = match event {
        Event::Progress(LoadProgress::Layer { id, current_bytes, total_bytes }) => vec![json!({
            "status": "Loading layer",
            "progressDetail": { "current": current_bytes, "total": total_bytes },
            "id": id.short(),
        })],
        Event::Loaded(images) => images.iter().map(loaded).collect(),
        Event::Failed(error) => {
            vec![json!({ "errorDetail": { "message": error.message }, "error": error.message })]
        }
    };
    objects.iter().map(|object| format!("{object}\r\n")).collect::<String>().into()
}

fn loaded(image: &LoadedImage) -> Value {
    json!({ "stream": match image {
        LoadedImage::Name(name) => format!("Loaded image: {name}\n"),
        LoadedImage::Id(id) => format!("Loaded image ID: {id}\n"),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_reads_as_dockers() {
        let event = Event::Loaded(vec![LoadedImage::Name("busybox:latest".into())]);
        assert_eq!(lines(&event), "{\"stream\":\"Loaded image: busybox:latest\\n\"}\r\n");
    }

    #[test]
    fn a_late_failure_is_the_streams_last_object() {
        let event = Event::Failed(ApiError::invalid("no"));
        assert_eq!(lines(&event), "{\"error\":\"no\",\"errorDetail\":{\"message\":\"no\"}}\r\n");
    }
}
