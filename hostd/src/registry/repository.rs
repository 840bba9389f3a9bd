//! One repository at its registry, and the mirrors that may answer for it. What can be asked of it is in the files
//! beside this one, a verb in each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::Url;

use super::Shared;
use super::authorizer::Authorizer;
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::failure::Failure;
use super::host::HostPort;
use super::subject::{Object, Subject};
use super::token::{Access, Scope};
use crate::image::{Digest, Repository};

const DEFAULT_DOMAIN: &str = "docker.io";
/// After a mirror there is the registry itself: not much is tried there.
const MIRROR_ATTEMPTS: u32 = 2;

/// A repository and who asks. Cheap to clone; clones share tokens.
#[derive(Clone, Debug)]
pub struct RemoteRepository {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) repository: Repository,
    pub(super) origin: Endpoint,
    mirrors: Vec<Mirror>,
    pub(super) pull: Scope,
    pub(super) push: Scope,
    /// Uploads that registries opened where a mount was asked for.
    pub(super) opened: Mutex<HashMap<Digest, Url>>,
}

#[derive(Debug)]
struct Mirror {
    endpoint: Endpoint,
    is_down: AtomicBool,
}

impl RemoteRepository {
    pub(super) fn new(shared: &Arc<Shared>, repository: &Repository, credentials: Credentials) -> Self {
        let (clients, policy) = (&shared.clients, &shared.policy);
        let is_default = repository.domain() == DEFAULT_DOMAIN;
        let host = if is_default { policy.default_registry.clone() } else { host_of(repository) };
        let mirrors = policy.mirrors.iter().filter(|_| is_default).filter_map(|url| {
            // The credentials are the registry's.
            let authorizer = Authorizer::new(Credentials::Anonymous);
            let endpoint = Endpoint::new(HostPort::of(url)?, Some(url.clone()), authorizer, clients, policy);
            Some(Mirror {
                endpoint: endpoint.with_attempts(MIRROR_ATTEMPTS),
                is_down: AtomicBool::new(false),
            })
        });
        let origin = Endpoint::new(host, None, Authorizer::new(credentials), clients, policy);
        let path = repository.path();
        let inner = Inner {
            shared: Arc::clone(shared),
            repository: repository.clone(),
            origin: origin.with_attempts(shared.settings.max_download_attempts),
            mirrors: mirrors.collect(),
            pull: Scope::of(path, Access::Pull),
            push: Scope::of(path, Access::PullAndPush),
            opened: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The repository's name.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.inner.repository
    }
}

impl Inner {
    /// A path of this repository's, below an endpoint's base.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("v2/{}/{rest}", self.repository.path())
    }

    /// How a failure of the registry itself is told.
    pub(super) fn error(&self, object: Object, failure: Failure) -> RegistryError {
        self.subject(object).error(failure)
    }

    pub(super) fn subject(&self, object: Object) -> Subject<'_> {
        Subject { registry: &self.origin.registry, repository: &self.repository, object }
    }

    /// Asks the mirrors, then the registry. The registry's word is the last.
    pub(super) async fn read<'a, T, Asked>(
        &'a self,
        object: Object,
        mut ask: impl FnMut(&'a Endpoint) -> Asked,
    ) -> Result<T, RegistryError>
    where
        Asked: Future<Output = Result<T, Failure>>,
    {
        for mirror in self.mirrors.iter().filter(|mirror| !mirror.is_down.load(Ordering::Relaxed)) {
            match ask(&mirror.endpoint).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => mirror.give_up(&self.subject(object.clone()), &failure),
            }
        }
        ask(&self.origin).await.map_err(|failure| self.error(object, failure))
    }
}

impl Mirror {
    fn give_up(&self, subject: &Subject<'_>, failure: &Failure) {
        let mirror = self.endpoint.registry.to_string();
        tracing::warn!(mirror, %failure, "{subject}: not from the mirror, going on to the next");
        // What answers may have the next thing; what does not would cost its deadline each time.
        if matches!(failure, Failure::Broken { .. }) {
            self.is_down.store(true, Ordering::Relaxed);
        }
    }
}

fn host_of(repository: &Repository) -> HostPort {
    repository.domain().parse().unwrap_or_else(|_| HostPort {
        // A port beyond 65535 is a name that leads nowhere, and fails as such.
        host: repository.domain().to_owned(),
        port: None,
    })
}
