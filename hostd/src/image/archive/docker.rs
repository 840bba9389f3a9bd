//! Docker's own archive format (moby image spec 1.2, "Combined Image JSON + Filesystem Changeset Format").

use serde::Deserialize;

use super::spool::Spool;
use super::{ArchiveError, ArchivedImage, MAX_IMAGES, check_layers, parse_name};
use crate::image::digest::Digest;

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn images(spool: &Spool) -> Result<Vec<ArchivedImage>, ArchiveError> {
    let items: Vec<ManifestItem> = spool.json(MANIFEST, "docker load")?;
    if items.len() > MAX_IMAGES {
        return Err(ArchiveError::Contents(format!("more than {MAX_IMAGES} images")));
    }
    items.into_iter().map(|item| image(spool, item)).collect()
}

fn image(spool: &Spool, item: ManifestItem) -> Result<ArchivedImage, ArchiveError> {
    let config = spool.document(&item.config, MANIFEST)?;
    let id = Digest::of(&config);
    let claimed = Digest::from_hex(item.config.strip_suffix(".json").unwrap_or(&item.config));
    if claimed.is_ok_and(|claimed| claimed != id) {
        return Err(ArchiveError::Digest { path: item.config, actual: id });
    }
    let layers = item.layers.unwrap_or_default();
    check_layers(MANIFEST, layers.len())?;
    let layers = layers.iter().map(|layer| spool.file(layer, MANIFEST).cloned()).collect::<Result<_, _>>()?;
    let names = item.repo_tags.unwrap_or_default();
    let names = names.iter().map(|name| parse_name(name)).collect::<Result<_, _>>()?;
    Ok(ArchivedImage { config, id, names, documents: Vec::new(), layers })
}
