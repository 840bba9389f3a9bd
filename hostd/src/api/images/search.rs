//! `GET /images/search`: repositories of Docker Hub, or of another registry that can search.

use axum::Json;
use axum::extract::State as Extracted;
use serde::Serialize;

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::filters::Filters;
use crate::api::params::Params;
use crate::api::registry_auth::RegistryAuth;
use crate::registry::SearchResult;

const DEFAULT_LIMIT: u32 = 25;
const MAX_LIMIT: u32 = 100;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::api) struct Found {
    star_count: u64,
    is_official: bool,
    name: String,
    is_automated: bool,
    description: String,
}

/// What the filters ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: u64,
}

pub(in crate::api) async fn search(
    Extracted(daemon): State,
    params: Params,
    RegistryAuth(credentials): RegistryAuth,
) -> ApiResult<Json<Vec<Found>>> {
    let limit = limit(params.number("limit")?)?;
    let wanted = Wanted::parse(&params.filters()?)?;
    let term = params.text("term").ok_or_else(|| ApiError::invalid("no term to search for was given"))?;
    let found = daemon.engine.registries().search(term, limit, credentials).await?;
    Ok(Json(found.into_iter().filter(|result| wanted.fits(result)).map(Found::from).collect()))
}

/// Zero means the default.
fn limit(given: Option<i64>) -> ApiResult<u32> {
    match given {
        None | Some(0) => Ok(DEFAULT_LIMIT),
        Some(given) => {
            u32::try_from(given).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
                ApiError::invalid(format!("limit {given} is outside the range of [1, {MAX_LIMIT}]"))
            })
        }
    }
}

impl Wanted {
    fn parse(filters: &Filters) -> ApiResult<Self> {
        filters.allow(&["is-official", "is-automated", "stars"], &[])?;
        let mut stars = 0;
        for text in filters.values("stars") {
            let least: u64 = text.parse().map_err(|_| refused("stars", text))?;
            stars = stars.max(least);
        }
        Ok(Self { official: flag(filters, "is-official")?, automated: flag(filters, "is-automated")?, stars })
    }

    fn fits(&self, result: &SearchResult) -> bool {
        self.official.is_none_or(|wanted| wanted == result.is_official)
            && self.automated.is_none_or(|wanted| wanted == result.is_automated)
            && result.star_count >= self.stars
    }
}

/// A filter that is yes or no.
fn flag(filters: &Filters, name: &str) -> ApiResult<Option<bool>> {
    match filters.values(name) {
        [] => Ok(None),
        [text] if matches!(text.as_str(), "true" | "1") => Ok(Some(true)),
        [text] if matches!(text.as_str(), "false" | "0") => Ok(Some(false)),
        values => Err(refused(name, &values.join(" "))),
    }
}

fn refused(name: &str, value: &str) -> ApiError {
    ApiError::invalid(format!("invalid filter '{name}=[{value}]'"))
}

impl From<SearchResult> for Found {
    fn from(result: SearchResult) -> Self {
        Self {
            star_count: result.star_count,
            is_official: result.is_official,
            name: result.name,
            is_automated: result.is_automated,
            description: result.description,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> ApiResult<Wanted> {
        Wanted::parse(&Filters::parse(json).unwrap())
    }

    #[test]
    fn filters_choose_among_what_was_found() {
        let result = SearchResult { star_count: 7, is_official: true, ..SearchResult::default() };
        for (json, expected) in [
            ("{}", true),
            (r#"{"stars":["7"]}"#, true),
            (r#"{"stars":["8"]}"#, false),
            (r#"{"is-official":["true"],"is-automated":["false"]}"#, true),
            (r#"{"is-official":{"false":true}}"#, false),
        ] {
            assert_eq!(wanted(json).unwrap().fits(&result), expected, "{json}");
        }
    }

    #[test]
    fn what_no_filter_or_limit_can_be_is_refused_in_dockers_words() {
        assert_eq!(wanted(r#"{"stars":["x"]}"#).unwrap_err().message, "invalid filter 'stars=[x]'");
        let both = r#"{"is-official":["true","false"]}"#;
        assert!(wanted(both).unwrap_err().message.starts_with("invalid filter 'is-official="));
        assert_eq!(wanted(r#"{"x":["y"]}"#).unwrap_err().message, "invalid filter 'x'");
        assert_eq!((limit(None), limit(Some(0)), limit(Some(100))), (Ok(25), Ok(25), Ok(100)));
        for given in [-1, 101] {
            assert!(limit(Some(given)).unwrap_err().message.contains("outside the range of [1, 100]"));
        }
    }
}
