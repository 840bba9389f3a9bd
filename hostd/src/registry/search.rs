//! `docker search`: the old index API, which the default registry still has.

use serde::Deserialize;

use super::Registries;
use super::credentials::Credentials;
use super::error::{RegistryError, RegistryErrorKind};

/// A repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub name: String,
    pub description: String,
    pub star_count: u64,
    pub is_official: bool,
    pub is_automated: bool,
}

impl Registries {
    /// Repositories whose name or description matches. A term that starts with a registry's host is searched there.
    ///
    /// # Errors
    /// The registry does not search, or as everywhere.
    pub async fn search(
        &self,
        term: &str,
        _limit: u32,
        _credentials: Credentials,
    ) -> Result<Vec<SearchResult>, RegistryError> {
        let message = format!("search for {term:?}: not supported yet");
        Err(RegistryError::new(RegistryErrorKind::Unreachable, message))
    }
}
