//! Docker's token authentication: what a token is for, and how a token server is asked for one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::challenge::Bearer;
use super::client::{Clients, Outgoing, Payload, join, read_body, refusal};
use super::credentials::Credentials;
use super::failure::{Failure, shown};
use super::host::HostPort;

const CLIENT_ID: &str = "berth";
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Servers that do not say how long a token lasts mean this.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// A token is not used this long before it ends: the request has to arrive while it is good.
const MARGIN: Duration = Duration::from_secs(10);

/// What one may do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Pull,
    PullAndPush,
}

/// What a request needs: access to repositories, by their paths at the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope(BTreeMap<String, Access>);

/// A bearer token and how long it is good.
pub(super) struct Token {
    pub(super) scope: Scope,
    pub(super) header: HeaderValue,
    expires: Instant,
    /// What logins keep instead of a password.
    pub(super) identity: Option<String>,
}

/// A question to a token server.
pub(super) struct TokenRequest<'a> {
    pub(super) registry: &'a HostPort,
    /// Where the registry was asked; how it is spoken to decides how its token server may be.
    pub(super) base: &'a Url,
    pub(super) challenge: &'a Bearer,
    pub(super) credentials: &'a Credentials,
    pub(super) scope: &'a Scope,
    pub(super) wants_identity: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Scope {
    pub(super) fn of(path: &str, access: Access) -> Self {
        Self(BTreeMap::from([(path.to_owned(), access)]))
    }

    pub(super) fn and(mut self, path: &str, access: Access) -> Self {
        let held = self.0.entry(path.to_owned()).or_insert(access);
        *held = access.max(*held);
        self
    }

    pub(super) fn covers(&self, needed: &Self) -> bool {
        needed.0.iter().all(|(path, access)| self.0.get(path).is_some_and(|held| held >= access))
    }

    /// As token servers read it, one for each repository.
    fn words(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(path, access)| {
            let actions = match access {
                Access::Pull => "pull",
                Access::PullAndPush => "pull,push",
            };
            format!("repository:{path}:{actions}")
        })
    }
}

impl Token {
    pub(super) fn is_good(&self, now: Instant) -> bool {
        now < self.expires
    }
}

impl TokenRequest<'_> {
    pub(super) async fn ask(&self, clients: &Clients) -> Result<Token, Failure> {
        let realm = self.realm()?;
        let host = HostPort::of(&realm).map(|host| host.to_string()).unwrap_or_default();
        self.ask_at(clients, realm).await.map_err(|failure| failure.at_token_server(&host))
    }

    /// The token server's URL. Over plain http only if the registry itself is spoken to so: passwords go there.
    fn realm(&self) -> Result<Url, Failure> {
        let named = || shown(&self.challenge.realm);
        let realm: Url = self.challenge.realm.parse().map_err(|_| {
            Failure::invalid(format!("asks to authenticate at {:?}, which is no URL", named()))
        })?;
        // The same cleaning as that of locations.
        let realm = join(&realm, "")?;
        match (realm.scheme(), self.base.scheme()) {
            ("https", _) | ("http", "http") => Ok(realm),
            _ => Err(Failure::invalid(format!("asks to authenticate at {}, which is not https", named()))),
        }
    }

    async fn ask_at(&self, clients: &Clients, realm: Url) -> Result<Token, Failure> {
        let outgoing = match self.credentials {
            Credentials::IdentityToken(identity) => self.exchange_identity(realm, identity),
            _ => self.plain(realm),
        };
        let deadline = Some(clients.patience.answer);
        let response = clients.send(Outgoing { deadline, ..outgoing }).await?;
        if !response.status().is_success() {
            return Err(refusal(response, &clients.patience).await);
        }
        let body = read_body(response, MAX_ANSWER_BYTES, &clients.patience).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| Failure::invalid(format!("no token: {error}")))?;
        answer.token(self.scope.clone(), Instant::now())
    }

    /// `GET`, with the password if there is one.
    fn plain(&self, mut realm: Url) -> Outgoing<'_> {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = &self.challenge.service {
            query.append_pair("service", service);
        }
        for scope in self.all_scopes() {
            query.append_pair("scope", &scope);
        }
        query.append_pair("client_id", CLIENT_ID);
        if self.wants_identity {
            query.append_pair("offline_token", "true");
        }
        let mut authorization = None;
        if let Credentials::Basic { username, password } = self.credentials {
            query.append_pair("account", username);
            authorization = Some(basic(username, password));
        }
        drop(query);
        self.outgoing(Method::GET, realm, authorization)
    }

    /// `POST` of OAuth 2: the identity token is its refresh token.
    fn exchange_identity(&self, realm: Url, identity: &str) -> Outgoing<'_> {
        let mut form = Url::parse("http://form.invalid").expect("a constant that is a URL");
        let scopes = self.all_scopes().join(" ");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", identity)
            .append_pair("service", self.challenge.service.as_deref().unwrap_or_default())
            .append_pair("scope", &scopes)
            .append_pair("client_id", CLIENT_ID);
        let body = form.query().unwrap_or_default().to_owned();
        let mut outgoing = self.outgoing(Method::POST, realm, None);
        outgoing.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        outgoing.payload = Payload::Bytes(body.into());
        outgoing
    }

    fn outgoing(&self, method: Method, url: Url, authorization: Option<HeaderValue>) -> Outgoing<'_> {
        let (headers, payload) = (HeaderMap::new(), Payload::Nothing);
        Outgoing { registry: self.registry, method, url, headers, payload, authorization, deadline: None }
    }

    /// What we need, and what the registry says that it wants.
    fn all_scopes(&self) -> Vec<String> {
        let mut scopes: Vec<_> = self.scope.words().collect();
        let wanted = self.challenge.scope.as_deref().unwrap_or_default();
        for scope in wanted.split(' ').filter(|scope| !scope.is_empty()) {
            let known = scopes.iter().any(|ours| same_access(ours, scope));
            if !known {
                scopes.push(scope.to_owned());
            }
        }
        scopes
    }
}

/// `repository:a:pull,push` and `repository:a:push,pull` ask for the same; so does the first for `repository:a:pull`.
fn same_access(ours: &str, theirs: &str) -> bool {
    let (Some((our_name, ours)), Some((their_name, theirs))) =
        (ours.rsplit_once(':'), theirs.rsplit_once(':'))
    else {
        return ours == theirs;
    };
    our_name == their_name && theirs.split(',').all(|action| ours.split(',').any(|ours| ours == action))
}

impl Answer {
    fn token(self, scope: Scope, now: Instant) -> Result<Token, Failure> {
        let text = self.token.or(self.access_token).filter(|token| !token.is_empty());
        let text = text.ok_or_else(|| Failure::invalid("an answer without a token"))?;
        let lifetime = self.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
        // A token that is shorter-lived than the margin is still good for the request it was fetched for.
        let usable = lifetime.saturating_sub(MARGIN).max(lifetime / 2);
        Ok(Token { scope, header: bearer(&text)?, expires: now + usable, identity: self.refresh_token })
    }
}

/// `Authorization` with a token.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    secret(format!("Bearer {token}"))
        .ok_or_else(|| Failure::invalid("a token with characters that no token has"))
}

/// `Authorization` with a password.
pub(super) fn basic(username: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    secret(format!("Basic {encoded}")).expect("base64 has no characters that headers forbid")
}

fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(answer: &str) -> Result<Token, Failure> {
        let now = Instant::now();
        serde_json::from_str::<Answer>(answer).unwrap().token(Scope::default(), now)
    }

    fn usable_for(answer: &str) -> Duration {
        let begin = Instant::now();
        token(answer).unwrap().expires - begin
    }

    #[test]
    fn tokens_are_used_until_shortly_before_their_end() {
        for (answer, seconds) in [
            (r#"{"token":"t"}"#, 50),
            (r#"{"access_token":"t","expires_in":300}"#, 290),
            (r#"{"token":"t","expires_in":2}"#, 1),
            (r#"{"token":"t","expires_in":99999999999}"#, 24 * 3600 - 10),
            (r#"{"token":"t","expires_in":0}"#, 0),
        ] {
            let usable = usable_for(answer);
            assert_eq!((usable + MARGIN / 20).as_secs(), seconds, "{answer}");
        }
        assert!(token(r#"{"token":""}"#).is_err());
        assert!(token(r#"{"token":"a\nb"}"#).is_err());
    }

    #[test]
    fn a_scope_covers_what_needs_no_more() {
        let pull = Scope::of("a", Access::Pull);
        let push = Scope::of("a", Access::PullAndPush);
        let mount = push.clone().and("b", Access::Pull);
        assert!(push.covers(&pull) && !pull.covers(&push));
        assert!(mount.covers(&push) && !push.covers(&mount));
        assert!(pull.covers(&Scope::default()));
        assert_eq!(mount.words().collect::<Vec<_>>(), ["repository:a:pull,push", "repository:b:pull"]);
        assert_eq!(pull.and("a", Access::PullAndPush), push);
    }

    #[test]
    fn the_registrys_wishes_are_added_once() {
        let asked = |ours: Scope, theirs: &str| {
            let challenge = Bearer { scope: Some(theirs.to_owned()), ..Bearer::default() };
            let (registry, base) = ("r".parse().unwrap(), "https://r".parse().unwrap());
            let request = TokenRequest {
                registry: &registry,
                base: &base,
                challenge: &challenge,
                credentials: &Credentials::Anonymous,
                scope: &ours,
                wants_identity: false,
            };
            request.all_scopes().join(" ")
        };
        let push = || Scope::of("a", Access::PullAndPush);
        assert_eq!(asked(push(), "repository:a:push,pull"), "repository:a:pull,push");
        assert_eq!(asked(push(), "repository:a:pull"), "repository:a:pull,push");
        assert_eq!(asked(push(), "registry:catalog:*"), "repository:a:pull,push registry:catalog:*");
    }
}
