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

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// # Errors
    /// Docker's texts for a client this daemon is too old or too new for.
    pub(super) fn check(self) -> Result<(), ApiError> {
        if self > Self::NEWEST {
            let newest = Self::NEWEST;
            return Err(ApiError::invalid(format!(
                "client version {self} is too new. Maximum supported API version is {newest}"
            )));
        }
        if self < Self::OLDEST {
            let oldest = Self::OLDEST;
            return Err(ApiError::invalid(format!(
                "client version {self} is too old. Minimum supported API version is {oldest}, \
                 please upgrade your client to a newer version"
            )));
        }
        Ok(())
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
pub(super) fn split(path: &str) -> (ApiVersion, &str) {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        Some((ApiVersion::parse(version)?, &rest[version.len()..]))
    });
    versioned.unwrap_or((ApiVersion::NEWEST, path))
}

/// Nouns whose names may contain slashes: `/images/registry.example/team/app:1/json`.
const SLASHED: [&str; 3] = ["/images/", "/distribution/", "/plugins/"];

/// Folds a name with slashes into one segment, so that the route table needs one line per endpoint: `is_last` says
/// whether the name ends the path (`DELETE /images/a/b`) or a verb follows it (`GET /images/a/b/json`).
pub(super) fn fold_name(path: &str, is_last: bool) -> Option<String> {
    let noun = SLASHED.into_iter().find(|noun| path.starts_with(noun))?;
    let rest = &path[noun.len()..];
    let (name, verb) = if is_last { (rest, "") } else { rest.split_at(rest.rfind('/')?) };
    name.contains('/').then(|| format!("{noun}{}{verb}", name.replace('/', "%2F")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(minor: u32) -> ApiVersion {
        ApiVersion { major: 1, minor }
    }

    #[test]
    fn a_version_prefix_is_taken_off() {
        assert_eq!(split("/v1.43/_ping"), (version(43), "/_ping"));
        assert_eq!(split("/_ping"), (ApiVersion::NEWEST, "/_ping"));
        assert_eq!(split("/volumes"), (ApiVersion::NEWEST, "/volumes"));
        assert_eq!(split("/v1.x/y"), (ApiVersion::NEWEST, "/v1.x/y"));
        assert_eq!(split("/v1.43"), (ApiVersion::NEWEST, "/v1.43"));
    }

    #[test]
    fn versions_compare_as_numbers_and_both_ends_are_included() {
        for minor in [24, 30, 51] {
            assert_eq!(version(minor).check(), Ok(()));
        }
        let too_new = version(52).check().unwrap_err();
        assert_eq!(too_new.message, "client version 1.52 is too new. Maximum supported API version is 1.51");
        let too_old = version(9).check().unwrap_err();
        assert_eq!(
            too_old.message,
            "client version 1.9 is too old. Minimum supported API version is 1.24, \
             please upgrade your client to a newer version"
        );
        assert!(ApiVersion { major: 2, minor: 0 }.check().is_err());
    }

    #[test]
    fn image_names_keep_their_slashes_in_one_segment() {
        assert_eq!(fold_name("/images/a/b:1/json", false).as_deref(), Some("/images/a%2Fb:1/json"));
        assert_eq!(fold_name("/images/a/b/c", true).as_deref(), Some("/images/a%2Fb%2Fc"));
        for (path, is_last) in [
            ("/images/a/json", false),
            ("/images/json", false),
            ("/images/a", true),
            ("/containers/a/json", false),
        ] {
            assert_eq!(fold_name(path, is_last), None, "{path}");
        }
    }
}
