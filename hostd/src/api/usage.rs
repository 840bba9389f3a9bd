//! `GET /system/df`: what images, containers and volumes take.

use axum::Json;
use axum::extract::State as Extracted;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::State;
use super::containers::{self, ContainerSummary};
use super::error::{ApiError, ApiResult};
use super::images::ImageSummary;
use super::params::Params;
use super::volumes::VolumeResource;
use crate::engine::Usage;

const TYPES: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// Build caches are a list that stays empty until Berth has some.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DiskUsage {
    #[serde(skip_serializing_if = "Option::is_none")]
    layers_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<ImageSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<ContainerSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Vec<VolumeResource>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_cache: Option<[(); 0]>,
    berth: Value,
}

pub(super) async fn df(Extracted(daemon): State, params: Params) -> ApiResult<Json<DiskUsage>> {
    let types: Vec<&str> = params.all("type").collect();
    if let Some(unknown) = types.iter().find(|kind| !TYPES.contains(kind)) {
        return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
    }
    let wants = |kind: &str| types.is_empty() || types.contains(&kind);
    let usage = daemon.engine.usage().await?;
    let volumes = if wants("volume") { daemon.engine.volumes_usage().await? } else { Vec::new() };
    let now = Timestamp::now();
    Ok(Json(DiskUsage {
        layers_size: wants("image").then_some(usage.store.layers_bytes),
        images: wants("image").then(|| images(&usage)),
        containers: wants("container").then(|| {
            let entry = |entry: &crate::engine::ContainerUsage| {
                containers::summary(&entry.view, Some(entry.written_bytes), &usage.images, now)
            };
            usage.containers.iter().map(entry).collect()
        }),
        volumes: wants("volume").then(|| volumes.iter().map(VolumeResource::with_usage).collect()),
        build_cache: wants("build-cache").then_some([]),
        berth: on_the_host(&usage),
    }))
}

fn images(usage: &Usage) -> Vec<ImageSummary> {
    let entry = |image: &crate::image::Image| {
        let users = usage.containers.iter().filter(|entry| entry.view.image_id == image.id);
        let own = usage.store.images.get(&image.id).copied().unwrap_or_default();
        ImageSummary::with_usage(image.clone(), &own, users.count())
    };
    usage.images.iter().map(entry).collect()
}

/// What only Berth tells: blocks of the host's disk, where Docker counts bytes of files.
fn on_the_host(usage: &Usage) -> Value {
    let images = usage.images.iter().map(|image| {
        let own = usage.store.images.get(&image.id).copied().unwrap_or_default();
        let entry = json!({
            "LogicalBytes": image.size_bytes,
            "AllocatedBytes": own.allocated_bytes,
            "ReclaimableBytes": own.reclaimable_bytes,
        });
        (image.id.to_string(), entry)
    });
    let written: u64 = usage.containers.iter().map(|entry| entry.written_bytes).sum();
    json!({
        "ImagesAllocatedBytes": usage.store.allocated_bytes,
        "ContainersWrittenBytes": written,
        "Images": images.collect::<serde_json::Map<_, _>>(),
    })
}
