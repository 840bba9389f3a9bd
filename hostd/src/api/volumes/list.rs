//! `GET /volumes` and `GET /volumes/{name}`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::Json;
use axum::extract::{Path, State as Extracted};
use jiff::Unit;
use serde::Serialize;
use serde_json::{Value, json};

use super::State;
use crate::api::error::ApiResult;
use crate::api::filters::NamePattern;
use crate::api::params::Params;
use crate::engine::{VolumeUsage, VolumeView};

const FILTERS: [&str; 4] = ["dangling", "driver", "label", "name"];
/// The one driver there is.
const DRIVER: &str = "local";

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct VolumeResource {
    created_at: String,
    driver: &'static str,
    /// Null if there are none.
    labels: Option<BTreeMap<String, String>>,
    mountpoint: PathBuf,
    name: String,
    /// Null if there are none.
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
    /// Only of `GET /system/df`.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Volumes {
    volumes: Vec<VolumeResource>,
    warnings: Option<Vec<String>>,
}

pub(in crate::api) async fn list(Extracted(daemon): State, params: Params) -> ApiResult<Json<Volumes>> {
    let filters = params.filters()?;
    filters.allow(&FILTERS, &[])?;
    let names =
        filters.values("name").iter().map(|name| NamePattern::parse(name)).collect::<ApiResult<Vec<_>>>()?;
    let dangling = filters.flag("dangling")?;
    let fits = |view: &VolumeView| {
        let volume = &view.volume;
        (names.is_empty() || names.iter().any(|name| name.fits(volume.name.as_str())))
            && filters.any("driver", |driver| driver == DRIVER)
            && filters.labels_fit(&volume.labels)
            && dangling.is_none_or(|dangling| dangling == view.holders.is_empty())
    };
    let views = daemon.engine.volumes().into_iter().filter(fits);
    Ok(Json(Volumes { volumes: views.map(|view| VolumeResource::of(&view)).collect(), warnings: None }))
}

pub(in crate::api) async fn inspect(
    Extracted(daemon): State,
    Path(name): Path<String>,
) -> ApiResult<Json<VolumeResource>> {
    Ok(Json(VolumeResource::of(&daemon.engine.volume(&name)?)))
}

impl VolumeResource {
    pub(super) fn of(view: &VolumeView) -> Self {
        let volume = &view.volume;
        let some = |map: &BTreeMap<_, _>| (!map.is_empty()).then(|| map.clone());
        Self {
            created_at: volume.created_at.round(Unit::Second).unwrap_or(volume.created_at).to_string(),
            driver: DRIVER,
            labels: some(&volume.labels),
            mountpoint: view.mountpoint.clone(),
            name: volume.name.to_string(),
            options: some(&volume.options),
            scope: "local",
            usage_data: None,
        }
    }

    /// With what it takes and how many containers have it.
    pub(in crate::api) fn with_usage(usage: &VolumeUsage) -> Self {
        let data = json!({ "Size": usage.bytes, "RefCount": usage.view.holders.len() });
        Self { usage_data: Some(data), ..Self::of(&usage.view) }
    }
}
