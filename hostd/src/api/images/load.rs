//! `POST /images/load`: an archive in, progress as a stream of JSON objects out.

use axum::extract::{Request, State as Extracted};
use axum::response::Response;

use super::{State, platform};
use crate::api::body::archive_of;
use crate::api::error::ApiResult;
use crate::api::params::Params;
use crate::api::stream::progress::{self, Report, Reporter};
use crate::engine::Engine;
use crate::image::manifest::Platform;
use crate::image::{LoadProgress, LoadedImage};

pub(in crate::api) async fn load(
    Extracted(daemon): State,
    params: Params,
    request: Request,
) -> ApiResult<Response> {
    let platform = platform::parse(&params)?;
    let quiet = params.flag("quiet");
    let archive = archive_of(request);
    let engine = daemon.engine.clone();
    let (reporter, reports) = progress::channel();
    tokio::task::spawn_blocking(move || run(&engine, archive, platform.as_ref(), quiet, &reporter));
    reports.into_response().await
}

fn run(
    engine: &Engine,
    archive: impl std::io::Read,
    platform: Option<&Platform>,
    quiet: bool,
    reporter: &Reporter,
) {
    // A client that no longer listens still gets its image: the archive may have arrived whole.
    let tell = |report| reporter.blocking_send(report).unwrap_or_default();
    let mut progress = |step| {
        if !quiet {
            tell(step_report(step));
        }
    };
    match engine.load_images(archive, platform, &mut progress) {
        Ok(images) => images.iter().for_each(|image| tell(Report::Text(loaded(image)))),
        Err(error) => tell(Report::Failed(error.into())),
    }
}

fn step_report(step: LoadProgress) -> Report {
    let LoadProgress::Layer { id, current_bytes, total_bytes } = step;
    Report::Bytes { id: id.short(), status: "Loading layer", current_bytes, total_bytes }
}

fn loaded(image: &LoadedImage) -> String {
    match image {
        LoadedImage::Name(name) => format!("Loaded image: {name}\n"),
        LoadedImage::Id(id) => format!("Loaded image ID: {id}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_reads_as_dockers() {
        assert_eq!(loaded(&LoadedImage::Name("busybox:latest".into())), "Loaded image: busybox:latest\n");
    }
}
