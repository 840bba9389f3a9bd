//! What a registry has under a name, looked at without pulling it.

use tokio::io::AsyncReadExt;

use super::super::Engine;
use super::super::error::EngineError;
use crate::image::manifest::{Descriptor, Document, MAX_DOCUMENT_BYTES, MediaType, Platform};
use crate::image::{Digest, InvalidReference, Reference};
use crate::registry::{Credentials, FetchedManifest, RemoteRepository};

/// A manifest or an index at its registry, and whom it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    pub media_type: String,
    pub digest: Digest,
    pub size_bytes: u64,
    /// Of an index one for each entry that names one, of a manifest its configuration's.
    pub platforms: Vec<Platform>,
}

impl Engine {
    /// The manifest or index, exactly as its registry has it.
    ///
    /// # Errors
    /// No name, or the registry's refusal.
    pub async fn registry_manifest(
        &self,
        name: &str,
        credentials: Credentials,
    ) -> Result<FetchedManifest, EngineError> {
        let reference = Reference::parse(name)?;
        let repository = self.registries().repository(&reference.repository, credentials);
        Ok(repository.manifest(&reference.selector).await?)
    }

    /// What the name leads to, and for which platforms.
    ///
    /// # Errors
    /// No name, the registry's refusal, or a document that is neither manifest nor index.
    pub async fn distribution(
        &self,
        name: &str,
        credentials: Credentials,
    ) -> Result<Distribution, EngineError> {
        let reference = Reference::parse(name)?;
        let repository = self.registries().repository(&reference.repository, credentials);
        let found = repository.manifest(&reference.selector).await?;
        let unusable = |error: &dyn std::error::Error| {
            EngineError::internal(&format!("the manifest of {}", reference.familiar()), error)
        };
        let media_type = MediaType::parse(&found.media_type).unwrap_or_default();
        let platforms =
            match Document::parse(&media_type, &found.content).map_err(|error| unusable(&error))? {
                Document::Index(index) => {
                    index.manifests.into_iter().filter_map(|entry| entry.platform).collect()
                }
                Document::Manifest(manifest) => {
                    let config = read_config(&repository, &manifest.config).await?;
                    // Plugins and artifacts have another kind of document there, which is for no platform.
                    vec![serde_json::from_slice(&config).unwrap_or_default()]
                }
            };
        Ok(Distribution {
            media_type: found.media_type,
            digest: found.digest,
            size_bytes: found.content.len() as u64,
            platforms,
        })
    }
}

/// The configuration's bytes, verified.
pub(super) async fn read_config(
    repository: &RemoteRepository,
    config: &Descriptor,
) -> Result<Vec<u8>, EngineError> {
    let digest = config.digest;
    let refused =
        |problem: &str| EngineError::invalid(format!("the image's configuration {digest} {problem}"));
    if config.size_bytes > MAX_DOCUMENT_BYTES {
        return Err(refused("has more than 4 MiB"));
    }
    let mut content = Vec::new();
    let mut blob = repository.blob(digest, config.size_bytes).take(MAX_DOCUMENT_BYTES);
    let reading = blob.read_to_end(&mut content).await;
    reading.map_err(|error| EngineError::internal("cannot read the image's configuration", &error))?;
    if Digest::of(&content) == digest {
        Ok(content)
    } else {
        Err(refused("has another digest than it should"))
    }
}

impl From<InvalidReference> for EngineError {
    fn from(error: InvalidReference) -> Self {
        Self::invalid(error.to_string())
    }
}
