//! Who we are, said anew for each request: chooses between password and token, keeps tokens until they end, fetches new
//! ones when the registry turns an old one down.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue};

use super::challenge::{self, Bearer, Challenge};
use super::client::Clients;
use super::credentials::Credentials;
use super::failure::Failure;
use super::host::HostPort;
use super::token::{Scope, Token, TokenRequest, basic, bearer};

/// Scopes of one pull or push: its repository, and those it mounts from.
const MAX_TOKENS: usize = 64;

/// The credentials for one registry and what was got for them.
pub(super) struct Authorizer {
    credentials: Credentials,
    wants_identity: bool,
    /// The index is older than tokens, whatever the registry beside it wants.
    by_password: bool,
    challenge: Mutex<Option<Challenge>>,
    /// Held while a token is fetched: who needs the same one waits for it.
    tokens: tokio::sync::Mutex<Vec<Token>>,
}

/// Where somebody has to be authorized.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) clients: &'a Clients,
    pub(super) registry: &'a HostPort,
    pub(super) base: &'a Url,
}

/// What proves who we are in one request.
pub(super) struct Proof {
    pub(super) header: HeaderValue,
    /// From an earlier request: may have ended since.
    is_kept: bool,
}

impl Authorizer {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            wants_identity: false,
            by_password: false,
            challenge: Mutex::default(),
            tokens: tokio::sync::Mutex::default(),
        }
    }

    /// Asks token servers for an identity token too.
    pub(super) fn for_login(credentials: Credentials) -> Self {
        Self { wants_identity: true, ..Self::new(credentials) }
    }

    /// Sends the password, if there is one, and asks no token server.
    pub(super) fn by_password(credentials: Credentials) -> Self {
        let challenge = Mutex::new(Some(Challenge::Basic));
        Self { by_password: true, challenge, ..Self::new(credentials) }
    }

    /// What a registry says to whom asks nothing in particular. Some name a scope there that is nobody's.
    pub(super) fn learn_from_ping(&self, headers: &HeaderMap) {
        self.learn(headers);
        if let Some(Challenge::Bearer(bearer)) =
            self.challenge.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            bearer.scope = None;
        }
    }

    /// What a registry says about how to prove who one is; the last word counts.
    pub(super) fn learn(&self, headers: &HeaderMap) {
        if self.by_password {
            return;
        }
        if let Some(challenge) = challenge::preferred(headers) {
            *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge);
        }
    }

    /// The proof for a request, if the registry wants one and we have it.
    pub(super) async fn proof(&self, place: Place<'_>, scope: &Scope) -> Result<Option<Proof>, Failure> {
        let challenge = self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (&self.credentials, challenge) {
            (Credentials::RegistryToken(token), _) => Ok(Some(Proof::made(bearer(token)?))),
            (_, None) => Ok(None),
            (Credentials::Basic { username, password }, Some(Challenge::Basic)) => {
                Ok(Some(Proof::made(basic(username, password))))
            }
            (_, Some(Challenge::Basic)) => Ok(None),
            (_, Some(Challenge::Bearer(challenge))) => self.token(place, &challenge, scope).await.map(Some),
        }
    }

    /// After a request was turned down: a proof that is another one, if there can be one.
    pub(super) async fn renewed(
        &self,
        place: Place<'_>,
        scope: &Scope,
        used: Option<Proof>,
    ) -> Result<Option<Proof>, Failure> {
        if let Some(used) = &used {
            if !used.is_kept {
                return Ok(None);
            }
            self.tokens.lock().await.retain(|token| token.header != used.header);
        }
        self.proof(place, scope).await
    }

    /// The identity token that came with a token, for logins.
    pub(super) async fn identity(&self) -> Option<String> {
        self.tokens.lock().await.iter().find_map(|token| token.identity.clone())
    }

    async fn token(&self, place: Place<'_>, challenge: &Bearer, scope: &Scope) -> Result<Proof, Failure> {
        let mut tokens = self.tokens.lock().await;
        let now = Instant::now();
        tokens.retain(|token| token.is_good(now));
        if let Some(token) = tokens.iter().find(|token| token.scope.covers(scope)) {
            return Ok(Proof { header: token.header.clone(), is_kept: true });
        }
        let request = TokenRequest {
            registry: place.registry,
            base: place.base,
            challenge,
            credentials: &self.credentials,
            scope,
            wants_identity: self.wants_identity,
        };
        let token = request.ask(place.clients).await?;
        let proof = Proof::made(token.header.clone());
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.push(token);
        Ok(proof)
    }
}

impl Proof {
    fn made(header: HeaderValue) -> Self {
        Self { header, is_kept: false }
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}
