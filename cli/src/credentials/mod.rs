//! What registries know the user by: looked up and kept as Docker's client does, so that one login serves both.
//!
//! Credentials live in `config.json` or with a helper program that it names; the daemon gets them with each request
//! and keeps none. Nothing here talks to a registry.

mod config_file;
mod program;

use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde::Serialize;
use thiserror::Error;

pub(crate) use config_file::{ConfigFile, Kept};

/// The name under which Docker Hub's credentials are kept, since long before there were other registries.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// What the API calls an auth configuration.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Credentials {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) password: String,
    #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
    pub(crate) server: String,
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub(crate) identity_token: String,
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub(crate) registry_token: String,
}

#[derive(Debug, Error)]
pub(crate) enum CredentialsError {
    #[error("{step} {}: {source}", path.display())]
    File { step: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {problem}", path.display())]
    Format { path: PathBuf, problem: String },
    #[error("{program}: {problem}")]
    Helper { program: String, problem: String },
    #[error("there is no home directory for .docker/config.json: set DOCKER_CONFIG to a directory")]
    NoHome,
}

impl Credentials {
    /// Nobody in particular.
    pub(crate) fn is_anonymous(&self) -> bool {
        [&self.username, &self.password, &self.identity_token, &self.registry_token]
            .into_iter()
            .all(String::is_empty)
    }

    /// The value of `X-Registry-Auth`.
    pub(crate) fn header(&self) -> String {
        URL_SAFE.encode(serde_json::to_vec(self).expect("a structure of texts is JSON"))
    }
}

/// Secrets do not belong into messages.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// The credentials for the registry of an image, anonymous if there are none.
///
/// # Errors
/// A configuration that cannot be read, or a helper that fails.
pub(crate) fn for_image(image: &str) -> Result<Credentials, CredentialsError> {
    let domain = crate::reference::domain(image);
    let Some(file) = ConfigFile::of_user_if_any()? else { return Ok(Credentials::default()) };
    Ok(file.credentials_for(server_key(domain))?.unwrap_or_default())
}

/// The key for a registry as users write it: everything that means Docker Hub is one.
pub(crate) fn server_key(server: &str) -> &str {
    match hostname(server) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
        _ => server,
    }
}

/// `registry.example:5000` of `https://registry.example:5000/v2/`.
pub(crate) fn hostname(server: &str) -> &str {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    rest.split_once('/').map_or(rest, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_json_in_base64_that_urls_can_carry() {
        let credentials =
            Credentials { username: "u?".into(), password: "~~~".into(), ..Credentials::default() };
        let header = credentials.header();
        assert!(!header.contains(['+', '/']), "{header}");
        let json = URL_SAFE.decode(header).unwrap();
        assert_eq!(json, br#"{"username":"u?","password":"~~~"}"#);
        assert!(!format!("{credentials:?}").contains("~~~"));
        assert_eq!(Credentials::default().header(), "e30=");
    }

    #[test]
    fn everything_that_means_docker_hub_has_one_key() {
        for server in ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"]
        {
            assert_eq!(server_key(server), HUB, "{server}");
        }
        assert_eq!(server_key("localhost:5000"), "localhost:5000");
        assert_eq!(hostname("https://registry.example:5000/v2/"), "registry.example:5000");
    }
}
