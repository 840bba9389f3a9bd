//! The client of registries: OCI distribution 1.1, Docker's registry API version 2, Docker's token authentication.
//!
//! ```text
//! Registries ──▶ RemoteRepository ──▶ manifest · blob · tags · upload         one file each
//!                      │
//!                  Endpoint: how it is spoken to, who we are (ping, challenge, authorizer, token), one exchange
//!                      │
//!                  Clients: one HTTP client per origin with its trust and its proxy; redirects; deadlines
//! ```
//!
//! A registry is hostile: every answer is bounded, every wait has a deadline, credentials go to nobody else. What the
//! bytes mean is none of its business: digests of blobs are checked by who stores them, manifests are parsed in `image`.

mod credentials;
mod error;
mod settings;

mod blob;
mod login;
mod manifest;
mod repository;
mod search;
mod tags;
mod upload;

mod authorizer;
mod challenge;
mod endpoint;
mod failure;
mod retry;
mod subject;
mod token;

mod client;
mod host;
mod policy;
mod trust;

#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use blob::{BlobReader, BlockingBlob};
pub use credentials::Credentials;
pub use error::{RegistryError, RegistryErrorKind};
pub use login::Login;
pub use manifest::FetchedManifest;
pub use repository::RemoteRepository;
pub use search::SearchResult;
pub use settings::{DefaultRegistry, InvalidSettings, Patience, Proxies, RegistrySettings};

use self::client::Clients;
use self::policy::Policy;
use crate::image::Repository;

/// Every registry there is, as the daemon's settings let it be reached. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registries {
    shared: Arc<Shared>,
}

/// What all repositories share.
#[derive(Debug)]
struct Shared {
    settings: RegistrySettings,
    policy: Arc<Policy>,
    clients: Arc<Clients>,
    downloads: Semaphore,
    uploads: Semaphore,
}

impl Registries {
    /// Checks the settings; nothing is connected to yet.
    ///
    /// # Errors
    /// The setting that says nothing usable.
    pub fn new(settings: RegistrySettings) -> Result<Self, InvalidSettings> {
        let policy = Arc::new(Policy::parse(&settings)?);
        let clients = Arc::new(Clients::new(&settings, Arc::clone(&policy)));
        let permits = |number: usize| Semaphore::new(number.clamp(1, Semaphore::MAX_PERMITS));
        let downloads = permits(settings.max_concurrent_downloads);
        let uploads = permits(settings.max_concurrent_uploads);
        Ok(Self { shared: Arc::new(Shared { settings, policy, clients, downloads, uploads }) })
    }

    /// What was configured.
    #[must_use]
    pub fn settings(&self) -> &RegistrySettings {
        &self.shared.settings
    }

    /// The repository at its registry. Connects when something is asked of it; what it learns (tokens, a mirror that is
    /// down) lasts as long as it and its clones: take one per pull or push.
    #[must_use]
    pub fn repository(&self, repository: &Repository, credentials: Credentials) -> RemoteRepository {
        RemoteRepository::new(&self.shared, repository, credentials)
    }
}
