//! `docker login`: do these credentials open that registry?

use std::fmt;

use reqwest::Method;

use super::Registries;
use super::authorizer::Authorizer;
use super::credentials::Credentials;
use super::endpoint::{Call, Endpoint};
use super::error::{RegistryError, RegistryErrorKind};
use super::failure::{Failure, shown};
use super::host::HostPort;
use super::subject;
use super::token::Scope;

const SUCCEEDED: &str = "Login Succeeded";
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Names by which clients keep the default registry's credentials.
const DEFAULT_NAMES: [&str; 4] = ["", "docker.io", "index.docker.io", "registry-1.docker.io"];

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
    pub async fn check_login(&self, server: &str, credentials: Credentials) -> Result<Login, RegistryError> {
        let registry = self.registry_of(server)?;
        let shared = &self.shared;
        let kept_identity = match &credentials {
            Credentials::IdentityToken(identity) => identity.clone(),
            _ => String::new(),
        };
        let authorizer = Authorizer::for_login(credentials);
        let endpoint = Endpoint::new(registry, None, authorizer, &shared.clients, &shared.policy);
        let scope = Scope::default();
        let asked = endpoint.ask(MAX_ANSWER_BYTES, || Call::new(Method::GET, "v2/", &scope)).await;
        asked.map_err(|failure| failed(&endpoint.registry, &failure))?;
        let identity_token = endpoint.authorizer.identity().await.unwrap_or(kept_identity);
        Ok(Login { status: SUCCEEDED.to_owned(), identity_token })
    }

    fn registry_of(&self, server: &str) -> Result<HostPort, RegistryError> {
        let host = match server.contains("://") {
            true => server.parse().ok().as_ref().and_then(HostPort::of),
            false => server.split('/').next().and_then(|host| host.parse().ok()),
        };
        let name = host.as_ref().map_or_else(String::new, ToString::to_string);
        match host {
            _ if server.is_empty() => Ok(self.shared.policy.default_registry.clone()),
            Some(_) if DEFAULT_NAMES.contains(&name.as_str()) => {
                Ok(self.shared.policy.default_registry.clone())
            }
            Some(host) => Ok(host),
            None => {
                let message = format!("{:?} is no registry's host", shown(server));
                Err(RegistryError::new(RegistryErrorKind::Refused, message))
            }
        }
    }
}

fn failed(registry: &HostPort, failure: &Failure) -> RegistryError {
    let kind = match failure {
        Failure::Broken { .. } => RegistryErrorKind::Unreachable,
        Failure::Invalid(_) => RegistryErrorKind::InvalidAnswer,
        Failure::Refused(refusal) => match subject::kind(refusal) {
            // Which of both a registry says about a wrong password is its taste.
            RegistryErrorKind::Denied => RegistryErrorKind::Unauthorized,
            kind => kind,
        },
    };
    RegistryError::new(kind, format!("login attempt to registry {registry} failed: {failure}"))
}

/// The token is as good as a password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("status", &self.status).finish_non_exhaustive()
    }
}
