//! `POST /images/create?fromImage=`: a pull, told as Docker's progress stream.
//!
//! The pull goes on for as long as its client listens.

use axum::response::Response;
use tokio::sync::mpsc;

use crate::api::Daemon;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::stream::progress::{self, Gone, Report, Reporter};
use crate::engine::{Engine, LayerStep, PullRequest, PullStep, PullTarget, Steps};
use crate::image::manifest::InvalidPlatform;
use crate::image::{InvalidReference, Reference, Repository, Selector};
use crate::registry::Credentials;

pub(super) async fn pull(daemon: &Daemon, credentials: Credentials, params: &Params) -> ApiResult<Response> {
    let name = params.text("fromImage").ok_or_else(|| ApiError::invalid("fromImage is missing"))?;
    let target = target(name, params.text("tag"))?;
    let platform = params.text("platform").map(str::parse).transpose();
    let platform = platform.map_err(|error: InvalidPlatform| ApiError::invalid(error.to_string()))?;
    let (reporter, reports) = progress::channel();
    tokio::spawn(run(daemon.engine.clone(), PullRequest { target, platform, credentials }, reporter));
    reports.into_response().await
}

/// What is meant: `tag` is a tag or a digest, and wins over one in the name. Neither means every tag.
fn target(name: &str, tag: Option<&str>) -> ApiResult<PullTarget> {
    let invalid = |error: InvalidReference| ApiError::invalid(error.to_string());
    let Some(tag) = tag else {
        return Ok(match Repository::parse(name) {
            Ok(repository) => PullTarget::AllTags(repository),
            Err(_) => PullTarget::One(Reference::parse(name).map_err(invalid)?),
        });
    };
    let repository = match Repository::parse(name) {
        Ok(repository) => repository,
        Err(_) => Reference::parse(name).map_err(invalid)?.repository,
    };
    let joint = if tag.contains(':') { '@' } else { ':' };
    let reference = Reference::parse(&format!("{}{joint}{tag}", repository.canonical()));
    Ok(PullTarget::One(reference.map_err(invalid)?))
}

/// Every step is told before the end is. Without its client the pull is dropped, which stops it.
async fn run(engine: Engine, request: PullRequest, reporter: Reporter) {
    let (steps, receiver) = Steps::channel();
    let pulling = async {
        let (pulled, told) = tokio::join!(engine.pull(request, steps), tell(receiver, &reporter));
        if let (Err(error), Ok(())) = (pulled, told) {
            reporter
                .send(Report::Failed(ApiError::from(error).asking_for_no_login()))
                .await
                .unwrap_or_default();
        }
    };
    tokio::select! {
        () = pulling => {}
        () = reporter.gone() => {}
    }
}

async fn tell(mut steps: mpsc::Receiver<PullStep>, reporter: &Reporter) -> Result<(), Gone> {
    while let Some(step) = steps.recv().await {
        for report in reports(step) {
            match report {
                Report::Bytes { .. } => reporter.offer(report)?,
                report => reporter.send(report).await?,
            }
        }
    }
    Ok(())
}

/// A step in Docker's words.
fn reports(step: PullStep) -> Vec<Report> {
    vec![match step {
        PullStep::Layer { blob, step } => return layer_reports(&blob.short(), step),
        PullStep::Found(Reference { repository, selector }) => {
            let id = match selector {
                Selector::Tag(tag) => tag,
                Selector::Manifest(digest) => digest.to_string(),
            };
            // Without its registry, as Docker shows it.
            let (_, path) = repository.canonical().split_once('/').expect("a canonical name has a domain");
            Report::of(id, format!("Pulling from {path}"))
        }
        PullStep::Warning(text) => Report::status(format!("WARNING: {text}")),
        PullStep::Resolved(digest) => Report::status(format!("Digest: {digest}")),
        PullStep::Finished { shown, updated: true } => {
            Report::status(format!("Status: Downloaded newer image for {shown}"))
        }
        PullStep::Finished { shown, updated: false } => {
            Report::status(format!("Status: Image is up to date for {shown}"))
        }
    }]
}

fn layer_reports(id: &str, step: LayerStep) -> Vec<Report> {
    let status = |status| Report::of(id, status);
    let bar = |status, current_bytes, total_bytes| Report::Bytes {
        id: id.to_owned(),
        status,
        current_bytes,
        total_bytes,
    };
    match step {
        LayerStep::Present => vec![status("Already exists")],
        LayerStep::Wanted => vec![status("Pulling fs layer")],
        LayerStep::Waiting => vec![status("Waiting")],
        LayerStep::Downloading { current_bytes, total_bytes } => {
            vec![bar("Downloading", current_bytes, total_bytes)]
        }
        LayerStep::Downloaded => vec![status("Verifying Checksum"), status("Download complete")],
        LayerStep::Unpacking { current_bytes, total_bytes } => {
            vec![bar("Extracting", current_bytes, total_bytes)]
        }
        LayerStep::Complete => vec![status("Pull complete")],
    }
}

#[cfg(test)]
mod tests;
