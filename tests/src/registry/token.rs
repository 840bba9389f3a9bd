//! Whom docker-registry believes: a token server as its specification describes one, with one user.
//!
//! Who asks without a name may pull; [`USER`](super::USER) may do everything, and gets an identity token if he asks
//! for one, which later stands for the password.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::{PASSWORD, USER};
use crate::http_server::{Answer, HttpServer, Request};

/// What tokens are for.
pub(super) const SERVICE: &str = "berth-test-registry";
/// Who signs them.
pub(super) const ISSUER: &str = "berth-test-issuer";
/// Stands for the password once it was given.
const IDENTITY_TOKEN: &str = "it-was-alice";
/// Short, so that no test can do with one token what takes long.
const VALID_S: u64 = 60;

/// A running token server.
#[derive(Debug)]
pub struct TokenServer {
    server: HttpServer,
    certificate_pem: String,
    issued: Arc<AtomicUsize>,
}

/// Signs tokens.
struct Signer {
    key: EcdsaKeyPair,
    certificate_der: Vec<u8>,
    issued: Arc<AtomicUsize>,
}

/// Who asks for a token.
#[derive(Clone, Copy, PartialEq)]
enum Asking {
    Nobody,
    User,
}

impl TokenServer {
    /// # Panics
    /// If loopback has no port left.
    #[must_use]
    pub fn start() -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let parameters = CertificateParams::new([]).expect("no names are no wrong names");
        let certificate = parameters.self_signed(&key).expect("a certificate can be made");
        let random = SystemRandom::new();
        let signing =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &random)
                .expect("rcgen's default key is of this kind");
        let issued = Arc::new(AtomicUsize::new(0));
        let signer =
            Signer { key: signing, certificate_der: certificate.der().to_vec(), issued: Arc::clone(&issued) };
        let server = HttpServer::start(move |request, answer| signer.answer(request, answer));
        Self { server, certificate_pem: certificate.pem(), issued }
    }

    pub(super) fn realm(&self) -> String {
        format!("http://{}/token", self.server.address())
    }

    pub(super) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// How many tokens it gave out so far.
    #[must_use]
    pub fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }
}

impl Signer {
    fn answer(&self, request: &Request, answer: &mut Answer) {
        let Some(asking) = who_asks(request) else {
            answer.send(
                401,
                &[("Content-Type", "application/json")],
                b"{\"details\":\"incorrect username or password\"}",
            );
            return;
        };
        let token = self.token(asking, request.parameters("scope"));
        self.issued.fetch_add(1, Ordering::Relaxed);
        let mut reply = json!({ "token": token, "access_token": token, "expires_in": VALID_S });
        let wants_identity = request.parameters("offline_token").any(|value| value == "true")
            || request.parameters("access_type").any(|value| value == "offline");
        if wants_identity && asking == Asking::User {
            reply["refresh_token"] = json!(IDENTITY_TOKEN);
        }
        answer.send(200, &[("Content-Type", "application/json")], reply.to_string().as_bytes());
    }

    /// A JSON web token, as docker-registry's documentation of its token authentication has it.
    fn token<'a>(&self, asking: Asking, scopes: impl Iterator<Item = &'a str>) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs();
        let certificate = BASE64_STANDARD.encode(&self.certificate_der);
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [certificate] });
        let words: Vec<&str> = scopes.flat_map(str::split_whitespace).collect();
        let access: Vec<Value> = words.iter().filter_map(|scope| granted(asking, scope)).collect();
        let claims = json!({
            "iss": ISSUER, "aud": SERVICE, "sub": if asking == Asking::User { USER } else { "" },
            "iat": now_s, "nbf": now_s - 5, "exp": now_s + VALID_S, "jti": "1", "access": access,
        });
        let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a key signs");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// `None`: who claims to be somebody and is not.
fn who_asks(request: &Request) -> Option<Asking> {
    if request.method == "POST" {
        let field = |name| request.parameters(name).next().unwrap_or_default();
        let is_user = match field("grant_type") {
            "refresh_token" => field("refresh_token") == IDENTITY_TOKEN,
            "password" => (field("username"), field("password")) == (USER, PASSWORD),
            _ => false,
        };
        return is_user.then_some(Asking::User);
    }
    let Some(authorization) = request.headers.get("authorization") else { return Some(Asking::Nobody) };
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
    (*authorization == expected).then_some(Asking::User)
}

/// What of `TYPE:NAME:ACTIONS` is allowed.
fn granted(asking: Asking, scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let allowed = |action: &&str| asking == Asking::User || *action == "pull";
    let actions: Vec<&str> = actions.split(',').filter(allowed).collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_pull_only() {
        let scope = "repository:library/busybox:pull,push";
        assert_eq!(granted(Asking::Nobody, scope).unwrap()["actions"], json!(["pull"]));
        assert_eq!(granted(Asking::User, scope).unwrap()["actions"], json!(["pull", "push"]));
    }
}
