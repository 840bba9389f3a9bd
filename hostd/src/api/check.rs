//! `POST /berth/check`: every byte of the image store read and compared. Berth's own endpoint; see `docs/api.md`.

use axum::extract::State as Extracted;
use axum::response::Response;
use serde_json::{Value, json};

use super::State;
use super::error::{ApiError, ApiResult};
use super::params::Params;
use super::stream::progress::{self, Report};
use crate::image::{CheckReport, Damage};

/// Answers with Docker's progress stream: a status for each object that is looked at, the report as the last one's `aux`.
pub(super) async fn check(Extracted(daemon): State, params: Params) -> ApiResult<Response> {
    let repair = params.flag("repair");
    let store = daemon.engine.images().clone();
    let (reporter, reports) = progress::channel();
    tokio::task::spawn_blocking(move || {
        // A client that goes away does not leave a repair half done.
        let tell = |report| reporter.blocking_send(report).unwrap_or_default();
        let checked = store.check(repair, &mut |part, digest| {
            tell(Report::of(digest.short(), format!("Checking {}", part.name())));
        });
        tell(match checked {
            Ok(report) => Report::Aux(encode(&report)),
            Err(error) => Report::Failed(ApiError::from(error)),
        });
    });
    reports.into_response().await
}

fn encode(report: &CheckReport) -> Value {
    let checked = report.checked.iter().map(|(part, count)| (part.name().to_owned(), json!(count)));
    json!({
        "Checked": checked.collect::<serde_json::Map<_, _>>(),
        "Damages": report.damages.iter().map(damage).collect::<Vec<_>>(),
    })
}

fn damage(damage: &Damage) -> Value {
    json!({
        "Part": damage.part.name(),
        "Digest": damage.digest,
        "Problem": damage.problem,
        "Images": damage.images,
        "Repaired": damage.repaired,
    })
}
