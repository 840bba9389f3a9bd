//! From a name to the manifest of one image, over as many indexes as lie between.

use super::Pull;
use crate::engine::error::{EngineError, ErrorKind, chain};
use crate::image::manifest::{
    Descriptor, Document, Manifest, ManifestError, MediaType, Platform, RawDocument,
};
use crate::image::{Digest, Selector};

/// Indexes in indexes are rare; three deep, nobody has seen any.
const MAX_DEPTH: usize = 4;

/// What a name stands for.
pub(super) struct Resolved {
    /// From what the name itself stands for to the manifest.
    pub(super) documents: Vec<RawDocument>,
    pub(super) manifest: Manifest,
}

impl Resolved {
    /// What the name stands for.
    pub(super) fn target(&self) -> Digest {
        self.documents.first().expect("a manifest was found").digest
    }
}

impl Pull<'_> {
    pub(super) async fn resolve(&self, wanted: &Platform) -> Result<Resolved, EngineError> {
        let mut raw = self.fetch(&self.reference.selector, None).await?;
        let mut documents = Vec::new();
        while documents.len() < MAX_DEPTH {
            let document = raw.parse().map_err(|error| self.unusable(&error))?;
            documents.push(raw);
            match document {
                Document::Manifest(manifest) => {
                    manifest.check_is_image().map_err(|error| self.unusable(&error))?;
                    return Ok(Resolved { documents, manifest });
                }
                Document::Index(index) => {
                    let entry = index.choose(wanted).map_err(|error| self.unusable(&error))?;
                    raw = self.child(entry).await?;
                }
            }
        }
        Err(self.refused("indexes that lead to indexes without end"))
    }

    /// A document that an index names; it may be here already.
    async fn child(&self, entry: &Descriptor) -> Result<RawDocument, EngineError> {
        let digest = entry.digest;
        let stored = self.engine.with_images(move |images| Ok(images.document(&digest)?)).await?;
        let raw = match stored {
            Some(raw) => raw,
            None => self.fetch(&Selector::Manifest(digest), Some(&entry.media_type)).await?,
        };
        if raw.content.len() as u64 != entry.size_bytes {
            return Err(self.refused(&format!("manifest {digest}: its size is not the one its index says")));
        }
        Ok(raw)
    }

    /// `expected` stands in for a type that the registry does not tell.
    async fn fetch(
        &self,
        selector: &Selector,
        expected: Option<&MediaType>,
    ) -> Result<RawDocument, EngineError> {
        let fetched = self.remote.manifest(selector).await?;
        let sent = MediaType::parse(&fetched.media_type).map_err(|problem| self.refused(problem))?;
        let media_type = if sent.is_empty() { expected.cloned().unwrap_or_default() } else { sent };
        let digest = Digest::of(&fetched.content);
        if let Selector::Manifest(wanted) = selector
            && digest != *wanted
        {
            return Err(self.refused(&format!("manifest {wanted}: its digest is {digest}")));
        }
        Ok(RawDocument { digest, media_type, content: fetched.content })
    }

    fn unusable(&self, error: &ManifestError) -> EngineError {
        match error {
            // Docker's words alone: clients and scripts look for them.
            ManifestError::NoMatch { .. } => EngineError::not_found(error.to_string()),
            _ => self.refused(&format!("its manifest: {}", chain(error))),
        }
    }

    /// The image is to blame, by name.
    pub(super) fn refused(&self, problem: &str) -> EngineError {
        EngineError::new(ErrorKind::Internal, format!("image {}: {problem}", self.reference.familiar()))
    }
}
