//! Who a client is at a registry: `X-Registry-Auth` on pulls and pushes, and `POST /auth` that checks it.
//!
//! The header is JSON in base64. Clients disagree about alphabet, padding and what stands for nobody; all of it is
//! understood, and what is no such thing is refused instead of asked for as nobody. Nothing is kept or logged.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State as Extracted};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use super::State;
use super::body::read_json;
use super::error::{ApiError, ApiResult};
use crate::registry::Credentials;

const HEADER: &str = "x-registry-auth";
/// Tokens are a few kilobytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// The client's credentials for the registry that the request will ask; anonymous without a header.
#[derive(Debug)]
pub(super) struct RegistryAuth(pub(super) Credentials);

/// Docker's auth configuration.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthConfig {
    username: Option<String>,
    password: Option<String>,
    /// `username:password` in base64, as configuration files have it.
    auth: Option<String>,
    #[serde(rename = "serveraddress")]
    server: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LoginReply {
    status: String,
    identity_token: String,
}

/// `POST /auth`.
pub(super) async fn check(
    Extracted(daemon): State,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<LoginReply>> {
    let config: AuthConfig = read_json(&headers, body).await?.unwrap_or_default();
    let server = config.server.clone().unwrap_or_default();
    let login = daemon.engine.registries().check_login(&server, config.credentials()?).await?;
    Ok(Json(LoginReply { status: login.status, identity_token: login.identity_token }))
}

impl AuthConfig {
    /// The strongest thing it says: a token before a password.
    fn credentials(self) -> ApiResult<Credentials> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.registry_token) {
            return Ok(Credentials::RegistryToken(token));
        }
        if let Some(token) = given(self.identity_token) {
            return Ok(Credentials::IdentityToken(token));
        }
        let (username, password) = match (given(self.username), given(self.auth)) {
            (None, Some(auth)) => user_and_password(&auth)?,
            (username, _) => (username.unwrap_or_default(), self.password.unwrap_or_default()),
        };
        if username.is_empty() && password.is_empty() {
            return Ok(Credentials::Anonymous);
        }
        Ok(Credentials::Basic { username, password })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RegistryAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> ApiResult<Self> {
        parts.headers.get(HEADER).map_or(Ok(Self(Credentials::Anonymous)), |value| parse(value.as_bytes()))
    }
}

fn parse(header: &[u8]) -> ApiResult<RegistryAuth> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(invalid("larger than 64 KiB"));
    }
    let json = decode(header).ok_or_else(|| invalid("illegal base64 data"))?;
    if json.trim_ascii().is_empty() {
        return Ok(RegistryAuth(Credentials::Anonymous));
    }
    // The parser's own words may quote a secret.
    let config: Option<AuthConfig> = serde_json::from_slice(&json)
        .map_err(|error| invalid(&format!("not an auth configuration (column {})", error.column())))?;
    Ok(RegistryAuth(config.unwrap_or_default().credentials()?))
}

fn user_and_password(auth: &str) -> ApiResult<(String, String)> {
    let text = decode(auth.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = pair.ok_or_else(|| invalid("auth is not USER:PASSWORD in base64"))?;
    Ok((username.to_owned(), password.to_owned()))
}

/// Either alphabet, with and without padding.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let read = |alphabet: &Alphabet| GeneralPurpose::new(alphabet, config).decode(text.trim_ascii()).ok();
    read(&URL_SAFE).or_else(|| read(&STANDARD))
}

fn invalid(problem: &str) -> ApiError {
    ApiError::invalid(format!("invalid X-Registry-Auth header: {problem}"))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose;

    use super::*;

    fn header(json: &str) -> ApiResult<Credentials> {
        parse(general_purpose::URL_SAFE.encode(json).as_bytes()).map(|auth| auth.0)
    }

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn both_alphabets_with_and_without_padding_are_understood() {
        let json = r#"{"username":"u>?","password":"~~?>p"}"#;
        for text in [
            general_purpose::URL_SAFE.encode(json),
            general_purpose::URL_SAFE_NO_PAD.encode(json),
            general_purpose::STANDARD.encode(json),
            general_purpose::STANDARD_NO_PAD.encode(json),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().0, basic("u>?", "~~?>p"), "{text}");
        }
    }

    #[test]
    fn nobody_has_many_names() {
        assert_eq!(parse(b"").unwrap().0, Credentials::Anonymous);
        for json in ["{}", "null", r#"{"auth":""}"#, r#"{"username":null,"serveraddress":"r"}"#, " "] {
            assert_eq!(header(json), Ok(Credentials::Anonymous), "{json}");
        }
    }

    #[test]
    fn a_token_wins_over_a_password() {
        let identity = r#"{"username":"u","password":"p","identitytoken":"i","email":"x"}"#;
        assert_eq!(header(identity), Ok(Credentials::IdentityToken("i".to_owned())));
        let registry = r#"{"registrytoken":"r","identitytoken":"i"}"#;
        assert_eq!(header(registry), Ok(Credentials::RegistryToken("r".to_owned())));
        assert_eq!(header(r#"{"auth":"dTpwOnE="}"#), Ok(basic("u", "p:q")));
    }

    #[test]
    fn what_is_no_auth_configuration_is_refused_without_repeating_it() {
        let long = "a".repeat(MAX_HEADER_BYTES + 1);
        for text in ["%%%", "a", long.as_str(), &general_purpose::STANDARD.encode("\"secret\"")] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.status == 400 && error.message.starts_with("invalid X-Registry-Auth"), "{error:?}");
            assert!(!error.message.contains("secret"), "{error:?}");
        }
        assert!(header(r#"{"auth":"c2VjcmV0"}"#).is_err(), "no colon");
    }
}
