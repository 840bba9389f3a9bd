//! Whom the test registry lets in: everybody, who has a password, or who has a token of its token server, which is at
//! `/token` of the same server and checks what it is asked for.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, Response, StatusCode};

use super::{Seen, error_body, response};

pub(crate) const USERNAME: &str = "somebody";
pub(crate) const PASSWORD: &str = "correct: horse";
pub(crate) const IDENTITY: &str = "identity-of-somebody";

#[derive(Default)]
pub(crate) enum Access {
    #[default]
    Everybody,
    Password,
    Token(Tokens),
}

/// Rules and memory of a token server. Everybody may pull from `public/…`; all else takes a password.
#[derive(Default)]
pub(crate) struct Tokens {
    /// How many requests a token is good for.
    pub(crate) uses: Option<usize>,
    /// Another realm than the server's own.
    pub(crate) realm: Option<String>,
    pub(crate) issued: Mutex<HashMap<String, Issued>>,
}

pub(crate) struct Issued {
    scopes: Vec<String>,
    uses_left: usize,
}

impl Access {
    /// The answer to who may not, and to who asks for a token.
    pub(super) fn answer(&self, seen: &Seen, base: &str) -> Option<Response<Body>> {
        match self {
            Self::Everybody => None,
            Self::Password => (!has_password(seen)).then(|| unauthorized("Basic realm=\"test\"")),
            Self::Token(tokens) if seen.path.starts_with("/token") => Some(tokens.issue(seen)),
            Self::Token(tokens) => tokens.check(seen, base),
        }
    }
}

impl Tokens {
    fn issue(&self, seen: &Seen) -> Response<Body> {
        let query = seen.path.split_once('?').map_or("", |(_, query)| query);
        let decoded = |text: &str| text.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        let pairs: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let known = has_password(seen) || seen.method == Method::POST;
        if !known && seen.headers.contains_key("authorization") {
            let wrong = "{\"details\": \"incorrect username or password\"}";
            return response(StatusCode::UNAUTHORIZED, &[("content-type", "application/json")], wrong);
        }
        let asked = pairs.iter().filter(|(name, _)| *name == "scope").map(|(_, scope)| decoded(scope));
        let allowed =
            |scope: &String| known || (scope.starts_with("repository:public/") && scope.ends_with(":pull"));
        let scopes = asked.filter(allowed).collect();
        let mut issued = self.issued.lock().unwrap();
        let token = format!("token-{}", issued.len());
        issued.insert(token.clone(), Issued { scopes, uses_left: self.uses.unwrap_or(usize::MAX) });
        let mut answer = serde_json::json!({"token": token, "expires_in": 300});
        if pairs.contains(&("offline_token", "true")) && known {
            answer["refresh_token"] = IDENTITY.into();
        }
        response(StatusCode::OK, &[("content-type", "application/json")], answer.to_string())
    }

    fn check(&self, seen: &Seen, base: &str) -> Option<Response<Body>> {
        let realm = self.realm.clone().unwrap_or_else(|| format!("{base}/token"));
        let needed = needed(seen);
        let scope = needed.as_deref().map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
        let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"{scope}");
        let sent = seen.headers.get("authorization").and_then(|value| value.to_str().ok());
        let mut issued = self.issued.lock().unwrap();
        let Some(token) = sent.and_then(|sent| issued.get_mut(sent.strip_prefix("Bearer ")?)) else {
            return Some(unauthorized(&challenge));
        };
        if token.uses_left == 0 {
            return Some(unauthorized(&format!("{challenge},error=\"invalid_token\"")));
        }
        token.uses_left -= 1;
        let covered = needed.is_none_or(|needed| {
            let (name, actions) = needed.rsplit_once(':').unwrap();
            token.scopes.iter().any(|scope| {
                let (held, held_actions) = scope.rsplit_once(':').unwrap();
                held == name
                    && actions.split(',').all(|action| held_actions.split(',').any(|held| held == action))
            })
        });
        (!covered).then(|| unauthorized(&format!("{challenge},error=\"insufficient_scope\"")))
    }
}

/// What a request needs, in the words of token servers.
fn needed(seen: &Seen) -> Option<String> {
    let rest = seen.path.strip_prefix("/v2/")?;
    let end = ["/manifests/", "/blobs/", "/tags/"].iter().find_map(|part| rest.find(part))?;
    let reads = matches!(seen.method, Method::GET | Method::HEAD) && !rest.contains("/uploads/");
    Some(format!("repository:{}:{}", &rest[..end], if reads { "pull" } else { "pull,push" }))
}

fn has_password(seen: &Seen) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(format!("{USERNAME}:{PASSWORD}")));
    seen.headers.get("authorization").is_some_and(|sent| sent.as_bytes() == expected.as_bytes())
}

fn unauthorized(challenge: &str) -> Response<Body> {
    let headers = [("www-authenticate", challenge), ("content-type", "application/json")];
    response(StatusCode::UNAUTHORIZED, &headers, error_body("UNAUTHORIZED", "authentication required"))
}
