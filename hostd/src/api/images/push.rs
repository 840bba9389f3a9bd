//! `POST /images/{name}/push`.

use axum::extract::{Path, State as Extracted};
use axum::response::Response;
use serde_json::json;
use tokio::sync::mpsc;

use super::{State, platform};
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::registry_auth::RegistryAuth;
use crate::api::stream::progress::{self, Report, Reporter};
use crate::engine::{Engine, LayerState, PushRequest, PushStep};
use crate::image::{Reference, Selector};

/// Steps that wait for a slow client; more and the push waits with it.
const WAITING_STEPS: usize = 64;

pub(in crate::api) async fn push(
    Extracted(daemon): State,
    Path(name): Path<String>,
    params: Params,
    RegistryAuth(credentials): RegistryAuth,
) -> ApiResult<Response> {
    let (name, tag) = what(&name, params.text("tag"))?;
    let platform = platform::parse(&params)?;
    let request = PushRequest { repository: name.repository, tag, platform, credentials };
    let (reporter, reports) = progress::channel();
    tokio::spawn(run(daemon.engine.clone(), request, reporter));
    reports.into_response().await
}

/// The repository and the tag. A tag in the name is ignored, as Docker does.
fn what(name: &str, tag: Option<&str>) -> ApiResult<(Reference, Option<String>)> {
    let invalid = |error: crate::image::InvalidReference| ApiError::invalid(error.to_string());
    let name = Reference::parse(name).map_err(invalid)?;
    let tagged = match tag {
        Some(tag) => {
            let joint = if tag.contains(':') { '@' } else { ':' };
            Reference::parse(&format!("{}{joint}{tag}", name.repository.familiar())).map_err(invalid)?
        }
        None => name.clone(),
    };
    match tagged.selector {
        Selector::Manifest(_) => Err(ApiError::invalid("cannot push a digest reference")),
        Selector::Tag(parsed) => Ok((name, tag.map(|_| parsed))),
    }
}

/// Ends when the client goes away, because then nobody takes the steps any more.
async fn run(engine: Engine, request: PushRequest, reporter: Reporter) {
    let (steps, mut taken) = mpsc::channel(WAITING_STEPS);
    let pushing = engine.push_image(request, steps);
    let forwarding = async {
        loop {
            let step = tokio::select! {
                step = taken.recv() => step,
                () = reporter.gone() => None,
            };
            let Some(step) = step else { break };
            for report in reports_of(step) {
                let told = match report {
                    Report::Bytes { .. } => reporter.offer(report),
                    report => reporter.send(report).await,
                };
                if told.is_err() {
                    taken.close();
                }
            }
        }
        drop(taken);
    };
    let (pushed, ()) = tokio::join!(pushing, forwarding);
    if let Err(error) = pushed {
        // Whoever could be told may have left.
        reporter.send(Report::Failed(error.into())).await.unwrap_or_default();
    }
}

/// Docker's words for a step.
fn reports_of(step: PushStep) -> Vec<Report> {
    match step {
        PushStep::Begun { repository } => {
            vec![Report::status(format!("The push refers to repository [{}]", repository.canonical()))]
        }
        PushStep::Layer { diff_id, state } => vec![layer(diff_id.short(), state)],
        PushStep::InsteadOfIndex { index, manifest } => vec![Report::Aux(json!({
            "manifestPushedInsteadOfIndex": true,
            "originalIndex": index,
            "selectedManifest": manifest,
        }))],
        PushStep::Pushed { tag, digest, size_bytes } => vec![
            Report::status(format!("{tag}: digest: {digest} size: {size_bytes}")),
            Report::Aux(json!({ "Tag": tag, "Digest": digest, "Size": size_bytes })),
        ],
    }
}

fn layer(id: String, state: LayerState) -> Report {
    match state {
        LayerState::Preparing => Report::of(id, "Preparing"),
        LayerState::Waiting => Report::of(id, "Waiting"),
        LayerState::Exists => Report::of(id, "Layer already exists"),
        LayerState::MountedFrom(repository) => Report::of(id, format!("Mounted from {}", repository.path())),
        LayerState::Pushing { sent_bytes, total_bytes } => {
            Report::Bytes { id, status: "Pushing", current_bytes: sent_bytes, total_bytes }
        }
        LayerState::Pushed => Report::of(id, "Pushed"),
    }
}

#[cfg(test)]
mod tests;
