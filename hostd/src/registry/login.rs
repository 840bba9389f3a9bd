//! `docker login`: do these credentials open that registry?

use super::Registries;
use super::credentials::Credentials;
use super::error::{RegistryError, RegistryErrorKind};

/// What a successful login tells the client.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub status: String,
    /// To be kept instead of the password; empty if the registry gives none.
    pub identity_token: String,
}

impl Registries {
    /// Asks a registry whether it takes the credentials. `server` is a host or a URL as clients keep it; empty means the
    /// default registry.
    ///
    /// # Errors
    /// [`RegistryErrorKind::Unauthorized`] if it does not take them.
    pub async fn check_login(&self, server: &str, _credentials: Credentials) -> Result<Login, RegistryError> {
        let message = format!("registry {server}: logging in is not supported yet");
        Err(RegistryError::new(RegistryErrorKind::Unreachable, message))
    }
}
