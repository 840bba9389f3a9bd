//! What an exchange was about, and so how its failure is told: Docker's sentences where Docker has some, and the
//! registry, the repository and what was asked for in every other.

use std::fmt;

use reqwest::StatusCode;

use super::error::{RegistryError, RegistryErrorKind};
use super::failure::{Cause, Failure, Refusal, Reported};
use super::host::HostPort;
use crate::image::{Digest, Repository, Selector};

/// Something asked of a repository.
#[derive(Clone, Debug)]
pub(super) struct Subject<'a> {
    pub(super) registry: &'a HostPort,
    pub(super) repository: &'a Repository,
    pub(super) object: Object,
}

/// What of it.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Manifest(Selector),
    Blob(Digest),
    Tags,
    /// Storing a manifest.
    NewManifest(Selector),
    /// Storing a blob.
    NewBlob(Digest),
}

impl Subject<'_> {
    pub(super) fn error(&self, failure: Failure) -> RegistryError {
        match failure {
            Failure::Refused(refusal) => self.refused(&refusal),
            Failure::Broken { reason, cause: Cause::Token } => {
                self.plain(RegistryErrorKind::Unauthorized, reason)
            }
            Failure::Broken { reason, .. } => self.plain(RegistryErrorKind::Unreachable, reason),
            Failure::Invalid(reason) => self.plain(RegistryErrorKind::InvalidAnswer, reason),
        }
    }

    pub(super) fn plain(&self, kind: RegistryErrorKind, reason: impl fmt::Display) -> RegistryError {
        RegistryError::new(kind, format!("registry {}: {self}: {reason}", self.registry))
    }

    fn refused(&self, refusal: &Refusal) -> RegistryError {
        let familiar = self.repository.familiar();
        let kind = kind(refusal);
        match (kind, &self.object) {
            (RegistryErrorKind::Denied, object) => {
                let action = if object.is_new() { "push" } else { "pull" };
                let reason = denial(refusal);
                let message = format!(
                    "{action} access denied for {familiar}, repository does not exist or may require \
                     'docker login': {reason}"
                );
                RegistryError::new(kind, message)
            }
            (RegistryErrorKind::NotFound, _) if refusal.code() == "NAME_UNKNOWN" => {
                RegistryError::new(kind, format!("repository {familiar} not found: {refusal}"))
            }
            (RegistryErrorKind::NotFound, Object::Manifest(selector)) => {
                RegistryError::new(kind, format!("manifest for {familiar}{selector} not found: {refusal}"))
            }
            _ => self.plain(kind, refusal),
        }
    }
}

impl Object {
    fn is_new(&self) -> bool {
        matches!(self, Self::NewManifest(_) | Self::NewBlob(_))
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.repository.familiar();
        match &self.object {
            Object::Manifest(selector) => write!(f, "manifest of {name}{selector}"),
            Object::Blob(digest) => write!(f, "blob {digest} of {name}"),
            Object::Tags => write!(f, "tags of {name}"),
            Object::NewManifest(selector) => write!(f, "storing the manifest of {name}{selector}"),
            Object::NewBlob(digest) => write!(f, "storing blob {digest} in {name}"),
        }
    }
}

/// What a refusal means, by the registry's code if it gives one, by the status otherwise.
pub(super) fn kind(refusal: &Refusal) -> RegistryErrorKind {
    match (refusal.code(), refusal.status) {
        ("DENIED", _) => RegistryErrorKind::Denied,
        ("UNAUTHORIZED", _) | (_, StatusCode::UNAUTHORIZED) => RegistryErrorKind::Unauthorized,
        ("TOOMANYREQUESTS", _) | (_, StatusCode::TOO_MANY_REQUESTS) => RegistryErrorKind::TooManyRequests,
        ("MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN", _) | (_, StatusCode::NOT_FOUND) => {
            RegistryErrorKind::NotFound
        }
        (_, StatusCode::FORBIDDEN) => RegistryErrorKind::Denied,
        _ => RegistryErrorKind::Refused,
    }
}

/// `denied: …` also where the registry has a status only.
fn denial(refusal: &Refusal) -> String {
    match &refusal.reported {
        Some(Reported { code, .. }) if !code.is_empty() => refusal.to_string(),
        _ => format!("denied: {refusal}"),
    }
}
