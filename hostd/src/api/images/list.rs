//! `GET /images/json`.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State as Extracted;
use jiff::Timestamp;
use serde::Serialize;

use super::pattern::ReferencePattern;
use super::prune::until;
use super::{State, with_store};
use crate::api::error::ApiResult;
use crate::api::filters::Filters;
use crate::api::params::Params;
use crate::image::{Image, ImageId, ImageStore, ImageUsage, ResolveError};

const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

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

/// `all` asks for intermediate images too, which Berth's builds do not leave, and `digests` for what is always told.
pub(in crate::api) async fn list(
    Extracted(daemon): State,
    params: Params,
) -> ApiResult<Json<Vec<ImageSummary>>> {
    params.refuse("GET /images/json", &["manifests"])?;
    let filters = params.filters()?;
    filters.allow(&FILTERS, &[])?;
    let selection = Selection::new(&filters)?;
    let with_shared_size = params.flag("shared-size");
    let (images, usage) = with_store(&daemon, move |store| {
        let images = selection.choose(&store, store.list()?)?;
        let usage = if with_shared_size { store.usage()?.images } else { HashMap::new() };
        Ok::<_, ResolveError>((images, usage))
    })
    .await?;
    Ok(Json(images.into_iter().map(|image| summary(image, &usage)).collect()))
}

fn summary(image: Image, usage: &HashMap<ImageId, ImageUsage>) -> ImageSummary {
    let shared_size = usage.get(&image.id).map_or(-1, shared_size);
    ImageSummary { shared_size, ..image.into() }
}

impl ImageSummary {
    /// What `system df` counts besides.
    pub(in crate::api) fn with_usage(image: Image, usage: &ImageUsage, containers: usize) -> Self {
        let containers = i64::try_from(containers).unwrap_or(i64::MAX);
        Self { shared_size: shared_size(usage), containers, ..image.into() }
    }
}

fn shared_size(usage: &ImageUsage) -> i64 {
    i64::try_from(usage.shared_bytes).unwrap_or(i64::MAX)
}

/// The filters, parsed.
struct Selection {
    dangling: Option<bool>,
    references: Vec<ReferencePattern>,
    /// Names of images.
    before: Vec<String>,
    since: Vec<String>,
    until: Option<Timestamp>,
    labels: Filters,
}

impl Selection {
    fn new(filters: &Filters) -> ApiResult<Self> {
        let references = filters.values("reference").iter().map(|text| ReferencePattern::parse(text));
        Ok(Self {
            dangling: filters.flag("dangling")?,
            references: references.collect::<ApiResult<_>>()?,
            before: filters.values("before").to_vec(),
            since: filters.values("since").to_vec(),
            until: until(filters)?,
            labels: filters.clone(),
        })
    }

    /// Those that fit, with the names that fit.
    fn choose(&self, store: &ImageStore, images: Vec<Image>) -> Result<Vec<Image>, ResolveError> {
        let created = |names: &[String]| {
            let created = names.iter().map(|name| Ok(store.resolve(name)?.created.unwrap_or_default()));
            created.collect::<Result<Vec<_>, ResolveError>>()
        };
        let before = created(&self.before)?.into_iter().chain(self.until).min();
        let since = created(&self.since)?.into_iter().max();
        let fits_in_time = |image: &Image| {
            let created = image.created.unwrap_or_default();
            before.is_none_or(|before| created < before) && since.is_none_or(|since| created > since)
        };
        let fitting = images.into_iter().filter(fits_in_time).filter_map(|image| self.fit(image));
        Ok(fitting.collect())
    }

    fn fit(&self, mut image: Image) -> Option<Image> {
        let dangling = image.names.is_empty();
        if !self.references.is_empty() {
            let named = |name: &String| self.references.iter().any(|pattern| pattern.fits(name));
            image.names.retain(named);
            image.repo_digests.retain(named);
        }
        let is_named = !image.names.is_empty() || !image.repo_digests.is_empty();
        let fits = (self.references.is_empty() || is_named)
            && self.dangling.is_none_or(|wanted| wanted == dangling)
            && self.labels.labels_fit(&image.config.labels);
        fits.then_some(image)
    }
}

impl From<Image> for ImageSummary {
    fn from(image: Image) -> Self {
        Self {
            id: image.id.to_string(),
            parent_id: "",
            repo_tags: image.names,
            repo_digests: image.repo_digests,
            created: image.created.map_or(0, Timestamp::as_second),
            size: image.size_bytes,
            shared_size: -1,
            labels: image.config.labels,
            containers: -1,
        }
    }
}
