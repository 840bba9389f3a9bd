//! The client against registries: honest ones, broken ones, hostile ones, and Debian's.

mod access;
mod blobs;
mod debian;
mod endpoints;
mod manifests;
mod mirrors;
mod redirects;
mod uploads;

use super::test_server::{Setup, TestRegistry};
use super::{Credentials, Registries, RemoteRepository};

/// A repository `a/b` of a registry that wants no authentication.
async fn open_repository() -> (TestRegistry, RemoteRepository) {
    repository_with(Setup::default(), "a/b", Credentials::Anonymous).await
}

async fn repository_with(
    setup: Setup,
    path: &str,
    credentials: Credentials,
) -> (TestRegistry, RemoteRepository) {
    let registry = TestRegistry::with(setup).await;
    let registries = Registries::new(registry.settings()).unwrap();
    let repository = registries.repository(&registry.repository(path), credentials);
    (registry, repository)
}

/// Bytes in which each offset looks different from its neighbours.
fn content(bytes: usize) -> bytes::Bytes {
    (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn headers(headers: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}
