//! What a push sends, decided before anything is sent: only what is here whole is pushed.

use std::collections::HashSet;

use bytes::Bytes;

use crate::engine::error::{EngineError, ErrorKind};
use crate::image::manifest::{Document, Index, Manifest, ManifestError, Platform, RawDocument};
use crate::image::{
    Digest, Image, ImageId, ImageStore, Pins, Reference, ResolveError, StoreError, StoredBlob,
};

/// Indexes in indexes; a real one has a single level.
const MAX_DEPTH: usize = 4;

/// A complete image, or several behind an index, that stay here until this is dropped.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the name leads to.
    pub(super) image: Image,
    /// What gets the tag.
    pub(super) document: RawDocument,
    /// What the document leads to, each before whatever leads to it.
    pub(super) children: Vec<RawDocument>,
    pub(super) configs: Vec<(Digest, Bytes)>,
    /// Each once, of an image the top one first.
    pub(super) layers: Vec<StoredBlob>,
    /// The index that the name stands for, if it is not what is pushed.
    pub(super) instead_of: Option<RawDocument>,
    _pins: Pins,
}

impl Plan {
    /// Blocks.
    pub(super) fn make(
        images: &ImageStore,
        name: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Self, EngineError> {
        let image = images.resolve(&name.familiar()).map_err(|error| match error {
            ResolveError::NotFound { reference } => {
                let message = format!("An image does not exist locally with the tag: {reference}");
                EngineError::not_found(message)
            }
            other => other.into(),
        })?;
        let target = images.target(name)?;
        let wanted = match (&target, platform) {
            (target, Some(platform)) => for_platform(images, name, &image, target.as_ref(), platform)?,
            (Some(target), None) => target.clone(),
            (None, None) => own_manifest(images, &image.id, None).map_err(|error| error.of(name))?,
        };
        let (document, parts) = complete(images, &image.id, wanted).map_err(|error| error.of(name))?;
        let pins = images.pin(parts.digests().chain([document.digest]));
        parts.check_layers(images).map_err(|error| error.of(name))?;
        let instead_of = target.filter(|target| platform.is_none() && target.digest != document.digest);
        let Parts { children, configs, layers, .. } = parts;
        Ok(Self { image, document, children, configs, layers, instead_of, _pins: pins })
    }
}

/// What a name lacks to be pushed.
#[derive(Debug)]
enum Incomplete {
    /// A child, a configuration or a layer.
    Absent(Digest),
    /// A document that cannot be read, which none that was stored is.
    Document(Digest, ManifestError),
    Store(StoreError),
}

impl From<StoreError> for Incomplete {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Incomplete {
    fn of(self, name: &Reference) -> EngineError {
        let name = name.familiar();
        match self {
            Self::Absent(digest) => {
                let message =
                    format!("cannot push {name}: {digest}, which belongs to it, is not here; pull it again");
                EngineError::new(ErrorKind::NotFound, message)
            }
            Self::Document(digest, error) => {
                EngineError::internal(&format!("cannot push {name}: manifest {digest}"), &error)
            }
            Self::Store(error) => error.into(),
        }
    }
}

/// What belongs to a document.
#[derive(Debug, Default)]
struct Parts {
    children: Vec<RawDocument>,
    configs: Vec<(Digest, Bytes)>,
    layers: Vec<StoredBlob>,
    seen: HashSet<Digest>,
}

/// The document with all its parts; of an index that lacks some, the image that is here alone.
fn complete(
    images: &ImageStore,
    image: &ImageId,
    wanted: RawDocument,
) -> Result<(RawDocument, Parts), Incomplete> {
    let document = parse(&wanted)?;
    let mut parts = Parts::default();
    match (parts.add(images, &wanted, 0), document) {
        (Ok(()), _) => Ok((wanted, parts)),
        (Err(Incomplete::Absent(_)), Document::Index(index)) => {
            let manifest = own_manifest(images, image, Some(&index))?;
            let mut parts = Parts::default();
            parts.add(images, &manifest, 0)?;
            Ok((manifest, parts))
        }
        (Err(error), _) => Err(error),
    }
}

impl Parts {
    /// Adds what belongs to the document.
    fn add(&mut self, images: &ImageStore, raw: &RawDocument, depth: usize) -> Result<(), Incomplete> {
        match parse(raw)? {
            Document::Manifest(manifest) => self.add_image(images, &manifest),
            Document::Index(index) => self.add_children(images, &index, depth),
        }
    }

    fn add_children(&mut self, images: &ImageStore, index: &Index, depth: usize) -> Result<(), Incomplete> {
        for entry in &index.manifests {
            if !self.seen.insert(entry.digest) {
                continue;
            }
            let child = images.document(&entry.digest)?.filter(|_| depth < MAX_DEPTH);
            let child = child.ok_or(Incomplete::Absent(entry.digest))?;
            self.add(images, &child, depth + 1)?;
            self.children.push(child);
        }
        Ok(())
    }

    fn add_image(&mut self, images: &ImageStore, manifest: &Manifest) -> Result<(), Incomplete> {
        let config = manifest.config.digest;
        if self.seen.insert(config) {
            let bytes = images.config(&ImageId(config))?.ok_or(Incomplete::Absent(config))?;
            self.configs.push((config, bytes.into()));
        }
        for layer in manifest.layers.iter().rev() {
            if self.seen.insert(layer.digest) {
                self.layers.push(images.blob(&layer.digest)?.ok_or(Incomplete::Absent(layer.digest))?);
            }
        }
        Ok(())
    }

    fn digests(&self) -> impl Iterator<Item = Digest> {
        let layers = self.layers.iter().flat_map(|layer| [layer.digest, layer.diff_id]);
        self.children.iter().map(|child| child.digest).chain(layers)
    }

    /// What was removed before it was pinned is missed here.
    fn check_layers(&self, images: &ImageStore) -> Result<(), Incomplete> {
        for layer in &self.layers {
            images.blob(&layer.digest)?.ok_or(Incomplete::Absent(layer.digest))?;
        }
        Ok(())
    }
}

fn parse(raw: &RawDocument) -> Result<Document, Incomplete> {
    raw.parse().map_err(|error| Incomplete::Document(raw.digest, error))
}

/// The manifest that the image came with, if it can be one of the index's; an image that came without gets one.
fn own_manifest(images: &ImageStore, id: &ImageId, index: Option<&Index>) -> Result<RawDocument, Incomplete> {
    if let Some(index) = index {
        let is_entry = |raw: &RawDocument| index.manifests.iter().any(|entry| entry.digest == raw.digest);
        if let Some(manifest) = images.manifests_of(id)?.into_iter().find(is_entry) {
            return Ok(manifest);
        }
    }
    // None: the image was removed meanwhile.
    images.manifest_for(id)?.ok_or(Incomplete::Absent(id.0))
}

/// The manifest of the image for this platform alone.
fn for_platform(
    images: &ImageStore,
    name: &Reference,
    image: &Image,
    target: Option<&RawDocument>,
    platform: &Platform,
) -> Result<RawDocument, EngineError> {
    let lacks = || {
        EngineError::not_found(format!(
            "image with reference {} was found but does not provide the specified platform ({platform})",
            name.familiar()
        ))
    };
    let mut found = target.cloned();
    for _ in 0..MAX_DEPTH {
        let Some(raw) = &found else { break };
        let Document::Index(index) = parse(raw).map_err(|error| error.of(name))? else { break };
        let entry = index.choose(platform).map_err(|_no_match| lacks())?;
        found = Some(images.document(&entry.digest)?.ok_or_else(lacks)?);
    }
    if let (Some(found), Some(target)) = (&found, target)
        && found.digest != target.digest
    {
        return Ok(found.clone());
    }
    let offered = Platform {
        os: image.os.clone(),
        architecture: image.architecture.clone(),
        variant: image.variant.clone().unwrap_or_default(),
    };
    platform.distance_to(&offered).ok_or_else(lacks)?;
    match found {
        Some(found) => Ok(found),
        None => own_manifest(images, &image.id, None).map_err(|error| error.of(name)),
    }
}
