//! `docker search`: the old index API, which the default registry still has.

use reqwest::{Method, Url};
use serde::Deserialize;

use super::Registries;
use super::authorizer::Authorizer;
use super::credentials::Credentials;
use super::endpoint::{Call, Endpoint, Target};
use super::error::{RegistryError, RegistryErrorKind};
use super::failure::{Failure, shown};
use super::host::HostPort;
use super::subject;
use super::token::Scope;

const MAX_ANSWER_BYTES: usize = 4 << 20;
/// What Docker allows to ask for.
const MAX_RESULTS: u32 = 100;
const DEFAULT_DOMAINS: [&str; 2] = ["docker.io", "index.docker.io"];

/// A repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub name: String,
    /// Registries write `null` for none.
    #[serde(deserialize_with = "text_or_null")]
    pub description: String,
    pub star_count: u64,
    pub is_official: bool,
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    results: Vec<SearchResult>,
}

impl Registries {
    /// Repositories whose name or description matches. A term that starts with a registry's host is searched there.
    ///
    /// # Errors
    /// The registry does not search, or as everywhere.
    pub async fn search(
        &self,
        term: &str,
        limit: u32,
        credentials: Credentials,
    ) -> Result<Vec<SearchResult>, RegistryError> {
        let shared = &self.shared;
        let (index, term) = self.index_of(term);
        let authorizer = Authorizer::by_password(credentials);
        let endpoint = Endpoint::new(index, None, authorizer, &shared.clients, &shared.policy);
        let limit = limit.clamp(1, MAX_RESULTS);
        let mut query = Url::parse("http://query.invalid").expect("a constant that is a URL");
        query.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
        let target = Target::Path("v1/search".to_owned(), query.query().map(str::to_owned));
        let scope = Scope::default();
        let asked = endpoint.ask(MAX_ANSWER_BYTES, || Call::to(Method::GET, target.clone(), &scope)).await;
        let found = asked.and_then(|answer| {
            serde_json::from_slice::<Found>(&answer.body)
                .map_err(|error| Failure::invalid(format!("no search results: {error}")))
        });
        let mut results = found.map_err(|failure| failed(&endpoint.registry, term, &failure))?.results;
        results.truncate(limit as usize);
        Ok(results)
    }

    /// The registry to search, and what for.
    fn index_of<'a>(&self, term: &'a str) -> (HostPort, &'a str) {
        let default = || self.shared.policy.default_index.clone();
        let Some((domain, rest)) = term.split_once('/') else { return (default(), term) };
        if DEFAULT_DOMAINS.contains(&domain) {
            return (default(), rest);
        }
        let is_host = domain.contains(['.', ':']) || domain == "localhost";
        match domain.parse() {
            Ok(host) if is_host => (host, rest),
            _ => (default(), term),
        }
    }
}

fn failed(registry: &HostPort, term: &str, failure: &Failure) -> RegistryError {
    let kind = match failure {
        Failure::Broken { .. } => RegistryErrorKind::Unreachable,
        Failure::Invalid(_) => RegistryErrorKind::InvalidAnswer,
        Failure::Refused(refusal) => subject::kind(refusal),
    };
    let reason = match kind {
        RegistryErrorKind::NotFound => format!("it does not search ({failure})"),
        _ => failure.to_string(),
    };
    RegistryError::new(kind, format!("registry {registry}: search for {:?}: {reason}", shown(term)))
}

fn text_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
