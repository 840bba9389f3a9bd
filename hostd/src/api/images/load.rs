//! `POST /images/load`: an archive in, progress as a stream of JSON objects out.

use axum::extract::{Request, State as Extracted};
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::stream::progress::{self, Report, Reporter};
use crate::image::{ImageStore, LoadProgress, LoadedImage};

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
    let (reporter, reports) = progress::channel();
    tokio::task::spawn_blocking(move || run(&store, archive, quiet, &reporter));
    reports.into_response().await
}

fn run(store: &ImageStore, archive: impl std::io::Read, quiet: bool, reporter: &Reporter) {
    // A client that no longer listens still gets its image: the archive may have arrived whole.
    let tell = |report| reporter.blocking_send(report).unwrap_or_default();
    let mut progress = |step| {
        if !quiet {
            tell(step_report(step));
        }
    };
    match store.load(archive, &mut progress) {
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
