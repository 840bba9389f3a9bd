//! `GET /images/json`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State as Extracted;
use serde::Serialize;

use super::pattern::ReferencePattern;
use super::{State, with_store};
use crate::api::error::ApiResult;
use crate::api::filters::Filters;
use crate::api::params::Params;
use crate::image::Image;

const FILTERS: [&str; 3] = ["dangling", "label", "reference"];
const LATER: [&str; 3] = ["before", "since", "until"];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct ImageSummary {
    id: String,
    parent_id: &'static str,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    /// Unix seconds.
    created: i64,
    size: u64,
    /// -1: not computed.
    shared_size: i64,
    labels: BTreeMap<String, String>,
    /// -1: not computed.
    containers: i64,
}

pub(in crate::api) async fn list(
    Extracted(daemon): State,
    params: Params,
) -> ApiResult<Json<Vec<ImageSummary>>> {
    params.refuse("GET /images/json", &["shared-size", "manifests"])?;
    let filters = params.filters()?;
    filters.allow(&FILTERS, &LATER)?;
    let references = filters.values("reference").iter().map(|text| ReferencePattern::parse(text));
    let references = references.collect::<ApiResult<Vec<_>>>()?;
    let images = with_store(&daemon, |store| store.list()).await?;
    let fits = |image: &Image| fits(image, &filters, &references);
    Ok(Json(images.into_iter().filter(fits).map(ImageSummary::from).collect()))
}

fn fits(image: &Image, filters: &Filters, references: &[ReferencePattern]) -> bool {
    let dangling = image.names.is_empty();
    let named = |pattern: &ReferencePattern| image.names.iter().any(|name| pattern.fits(name));
    filters.any("dangling", |wanted| dangling == matches!(wanted.as_str(), "1" | "true"))
        && filters.labels_fit(&image.config.labels)
        && (references.is_empty() || references.iter().any(named))
}

impl From<Image> for ImageSummary {
    fn from(image: Image) -> Self {
        Self {
            id: image.id.to_string(),
            parent_id: "",
            repo_tags: image.names,
            repo_digests: image.repo_digests,
            created: image.created.map_or(0, jiff::Timestamp::as_second),
            size: image.size_bytes,
            shared_size: -1,
            labels: image.config.labels,
            containers: -1,
        }
    }
}
