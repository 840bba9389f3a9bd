//! Paths as clients write them: the `/v1.NN` prefix, and image names with slashes in them.
//!
//! Docker answers the same endpoints under every version it supports; a client negotiates the highest that both know.

use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::error::ApiError;

/// A version of the Engine API; the derived order is the versions' order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// The specification this daemon is written against.
    pub(super) const NEWEST: Self = Self { major: 1, minor: 51 };
    /// The oldest that Docker 28 accepts.
    pub(super) const OLDEST: Self = Self { major: 1, minor: 24 };
    /// Since then multiplexed streams have a content type of their own.
    pub(super) const MULTIPLEXED_TYPE: Self = Self { major: 1, minor: 42 };
    /// Since then a prune removes anonymous volumes alone, unless asked for all.
    pub(super) const ANONYMOUS_PRUNE: Self = Self { major: 1, minor: 42 };

    /// Numbers with points between them, of which the first two count; one that is too large for anybody is the largest.
    fn parse(text: &str) -> Option<Self> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<&str> = text.split('.').collect();
        let number = |part: &&str| part.parse().unwrap_or(u32::MAX);
        let minor = parts.get(1).map_or(0, number);
        parts.iter().all(|part| is_number(part)).then(|| Self { major: number(&parts[0]), minor })
    }

    /// # Errors
    /// Docker's texts for a client this daemon is too old or too new for; `text` is how that wrote its version.
    fn check(self, text: &str) -> Result<Self, ApiError> {
        if self > Self::NEWEST {
            let newest = Self::NEWEST;
            return Err(ApiError::invalid(format!(
                "client version {text} is too new. Maximum supported API version is {newest}"
            )));
        }
        if self < Self::OLDEST {
            let oldest = Self::OLDEST;
            return Err(ApiError::invalid(format!(
                "client version {text} is too old. Minimum supported API version is {oldest}, \
                 please upgrade your client to a newer version"
            )));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().copied().unwrap_or(Self::NEWEST))
    }
}

/// Splits `/v1.43/containers/json` into version and path. Without a prefix the newest version is meant; what only
/// looks like one stays part of the path.
///
/// # Errors
/// A version that is not answered.
pub(super) fn split(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let prefix = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    let Some((text, version)) = prefix.and_then(|(text, _)| Some((text, ApiVersion::parse(text)?))) else {
        return Ok((ApiVersion::NEWEST, path));
    };
    Ok((version.check(text)?, &path["/v".len() + text.len()..]))
}

/// Nouns whose names may contain slashes: `/images/registry.example/team/app:1/json`.
const SLASHED: [&str; 3] = ["/images/", "/distribution/", "/plugins/"];

/// Folds a name with slashes into one segment, so that the route table needs one line per endpoint: `is_last` says
/// whether the name ends the path (`DELETE /images/a/b`) or a verb follows it (`GET /images/a/b/json`). A last name that
/// is a verb elsewhere (`DELETE /containers/json`) is spelled so that it means the name.
pub(super) fn fold_name(path: &str, is_last: bool) -> Option<String> {
    let slashed = SLASHED.into_iter().find_map(|noun| Some((noun, path.strip_prefix(noun)?)));
    if !is_last {
        let (noun, rest) = slashed?;
        let (name, verb) = rest.split_at(rest.rfind('/')?);
        return name.contains('/').then(|| format!("{noun}{}{verb}", name.replace('/', "%2F")));
    }
    let (noun, name) = slashed.or_else(|| {
        let name = path.strip_prefix("/containers/").filter(|name| !name.contains('/'))?;
        Some(("/containers/", name))
    })?;
    let first = name.bytes().next().filter(u8::is_ascii_alphanumeric)?;
    Some(format!("{noun}%{first:02X}{}", name[1..].replace('/', "%2F")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(minor: u32) -> ApiVersion {
        ApiVersion { major: 1, minor }
    }

    #[test]
    fn a_version_prefix_is_taken_off() {
        for (path, expected) in [
            ("/v1.43/_ping", (version(43), "/_ping")),
            ("/_ping", (ApiVersion::NEWEST, "/_ping")),
            ("/volumes", (ApiVersion::NEWEST, "/volumes")),
            ("/v1.x/y", (ApiVersion::NEWEST, "/v1.x/y")),
            ("/v1..3/y", (ApiVersion::NEWEST, "/v1..3/y")),
            ("/v1.43", (ApiVersion::NEWEST, "/v1.43")),
            ("/v1.43/", (version(43), "/")),
        ] {
            assert_eq!(split(path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn versions_compare_as_numbers_and_both_ends_are_included() {
        for minor in [24, 30, 51] {
            assert!(split(&format!("/v1.{minor}/x")).is_ok(), "{minor}");
        }
        for text in ["1.52", "1.99", "2", "2.0", "99999999999999999999.1", "1.99999999999999999999"] {
            let expected = format!("client version {text} is too new. Maximum supported API version is 1.51");
            assert_eq!(split(&format!("/v{text}/x")).unwrap_err().message, expected);
        }
        for text in ["1.9", "0", "1", "1.23", "0.99"] {
            let expected = format!(
                "client version {text} is too old. Minimum supported API version is 1.24, \
                 please upgrade your client to a newer version"
            );
            assert_eq!(split(&format!("/v{text}/x")).unwrap_err().message, expected);
        }
    }

    #[test]
    fn a_last_name_is_a_name_even_if_it_is_a_verb_elsewhere() {
        assert_eq!(fold_name("/containers/json", true).as_deref(), Some("/containers/%6Ason"));
        assert_eq!(fold_name("/images/prune", true).as_deref(), Some("/images/%70rune"));
        assert_eq!(fold_name("/containers/a/checkpoints/b", true), None);
        assert_eq!(fold_name("/containers/", true), None);
    }

    #[test]
    fn image_names_keep_their_slashes_in_one_segment() {
        assert_eq!(fold_name("/images/a/b:1/json", false).as_deref(), Some("/images/a%2Fb:1/json"));
        assert_eq!(fold_name("/images/a/b/c", true).as_deref(), Some("/images/%61%2Fb%2Fc"));
        for (path, is_last) in
            [("/images/a/json", false), ("/images/json", false), ("/containers/a/json", false)]
        {
            assert_eq!(fold_name(path, is_last), None, "{path}");
        }
    }
}
