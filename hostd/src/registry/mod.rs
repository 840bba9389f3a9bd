//! The client of registries: OCI distribution 1.1, Docker's registry API version 2, Docker's token authentication.
//!
//! ```text
//! Registries ──▶ RemoteRepository ──▶ manifest · blob · tags · upload · …      one file each
//!                      │
//!                  Endpoint: which URL, who we are (ping, challenges, tokens), one exchange with its retries
//!                      │
//!                  Clients: one HTTP client per origin, with its trust and its proxy
//! ```
//!
//! A registry is hostile: every answer is bounded, every wait has a deadline, credentials go to nobody else. What the
//! bytes mean is none of its business: digests of blobs are checked by who stores them, manifests are parsed in `image`.

mod credentials;
mod error;
mod repository;
mod settings;

mod blob;
mod login;
mod search;

use std::sync::Arc;

pub use blob::{BlobReader, BlockingBlob};
pub use credentials::Credentials;
pub use error::{RegistryError, RegistryErrorKind};
pub use login::Login;
pub use repository::{FetchedManifest, RemoteRepository};
pub use search::SearchResult;
pub use settings::{DefaultRegistry, InvalidSettings, Patience, Proxies, RegistrySettings};

use crate::image::Repository;

/// Every registry there is, as the daemon's settings let it be reached. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registries {
    settings: Arc<RegistrySettings>,
}

impl Registries {
    /// Checks the settings; nothing is connected to yet.
    ///
    /// # Errors
    /// The setting that says nothing usable.
    pub fn new(settings: RegistrySettings) -> Result<Self, InvalidSettings> {
        Ok(Self { settings: Arc::new(settings) })
    }

    /// What was configured.
    #[must_use]
    pub fn settings(&self) -> &RegistrySettings {
        &self.settings
    }

    /// The repository at its registry. Connects when something is asked of it; what it learns (tokens, a mirror that is
    /// down) lasts as long as it and its clones: take one per pull or push.
    #[must_use]
    pub fn repository(&self, repository: &Repository, credentials: Credentials) -> RemoteRepository {
        RemoteRepository::new(repository.clone(), credentials)
    }
}
