//! `POST /images/create?fromSrc=-`: the archive of a file system in, an image of one layer out.

use axum::extract::Request;
use axum::response::Response;

use super::name::repository_and_tag;
use super::platform;
use crate::api::Daemon;
use crate::api::body::archive_of;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::stream::progress::{self, Report};
use crate::engine::Signal;
use crate::image::manifest::Platform;
use crate::image::{ImageConfig, ImportSpec};

pub(super) async fn import(daemon: &Daemon, params: &Params, request: Request) -> ApiResult<Response> {
    if params.text("fromSrc") != Some("-") {
        return Err(ApiError::not_supported(
            "berth does not fetch archives from URLs: download it, and import the file",
        ));
    }
    let spec = spec(params)?;
    let archive = archive_of(request);
    let engine = daemon.engine.clone();
    let (reporter, reports) = progress::channel();
    tokio::task::spawn_blocking(move || {
        let report = match engine.import_image(archive, &spec) {
            Ok(id) => Report::status(id.to_string()),
            Err(error) => Report::Failed(error.into()),
        };
        // A client that no longer listens still gets its image.
        reporter.blocking_send(report).unwrap_or_default();
    });
    reports.into_response().await
}

fn spec(params: &Params) -> ApiResult<ImportSpec> {
    let mut config = ImageConfig::default();
    config.change(params.all("changes")).map_err(|error| ApiError::invalid(error.to_string()))?;
    if let Some(signal) = &config.stop_signal {
        signal.parse::<Signal>()?;
    }
    let platform = platform::parse(params)?.unwrap_or_else(Platform::host).normalized();
    if platform.os != "linux" {
        return Err(ApiError::invalid(format!("operating system is not supported: {}", platform.os)));
    }
    let message = params.text("message").unwrap_or("Imported from -").to_owned();
    Ok(ImportSpec { name: repository_and_tag(params)?, config, platform, message })
}
