//! Query parameters, read as Docker reads them: the first of several wins, an empty one counts as absent, and every
//! word but a few means true.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::error::ApiError;
use super::filters::Filters;

#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter that may be repeated.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let given = self.0.iter().filter(move |(given, value)| given == name && !value.is_empty());
        given.map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        let value = self.text(name).map(|value| value.trim().to_ascii_lowercase());
        value.is_some_and(|value| !matches!(value.as_str(), "" | "0" | "no" | "false" | "none"))
    }

    /// # Errors
    /// A value that is no number of this size, by name.
    pub(super) fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>, ApiError> {
        let parse = |value: &str| {
            value.parse().map_err(|_| ApiError::invalid(format!("invalid value for {name}: \"{value}\"")))
        };
        self.text(name).map(parse).transpose()
    }

    /// # Errors
    /// Docker's text for filters that are not the JSON they should be.
    pub(super) fn filters(&self) -> Result<Filters, ApiError> {
        self.text("filters").map_or_else(|| Ok(Filters::default()), Filters::parse)
    }

    /// # Errors
    /// The first of `names` that is set, as something Berth cannot do yet.
    pub(super) fn refuse(&self, endpoint: &str, names: &[&str]) -> Result<(), ApiError> {
        match names.iter().find(|name| self.flag(name)) {
            Some(name) => {
                Err(ApiError::not_supported(format!("{name} of {endpoint} is not supported by berth yet")))
            }
            None => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        check_query(parts.uri.query().unwrap_or_default())?;
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = pairs.map_err(|error| ApiError::invalid(error.body_text()))?;
        Ok(pairs.into_iter().collect())
    }
}

/// # Errors
/// Docker's texts for what is no query: the decoder would take it for something else.
fn check_query(query: &str) -> Result<(), ApiError> {
    if query.contains(';') {
        return Err(ApiError::invalid("invalid semicolon separator in query"));
    }
    check_escapes(query)
}

/// # Errors
/// A percent sign that two hexadecimal digits do not follow, in Docker's words.
pub(super) fn check_escapes(text: &str) -> Result<(), ApiError> {
    let wrong = text.split('%').skip(1).find(|rest| {
        let digits = rest.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    match wrong {
        None => Ok(()),
        Some(rest) => {
            let shown: String = rest.chars().take(2).collect();
            Err(ApiError::invalid(format!("invalid URL escape \"%{shown}\"")))
        }
    }
}

/// Whether what [`check_escapes`] lets through spells text.
pub(super) fn is_text(escaped: &str) -> bool {
    let mut pieces = escaped.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or_default();
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend(rest.as_bytes());
    }
    std::str::from_utf8(&bytes).is_ok()
}

impl FromIterator<(String, String)> for Params {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_flag_is_true_unless_it_says_no() {
        for (value, expected) in [
            ("1", true),
            ("true", true),
            ("yes", true),
            ("0", false),
            ("False", false),
            ("none", false),
            ("", false),
        ] {
            assert_eq!(params(&[("all", value)]).flag("all"), expected, "{value}");
        }
        assert!(!params(&[]).flag("all"));
    }

    #[test]
    fn the_first_of_several_wins() {
        assert_eq!(params(&[("t", "1"), ("t", "2")]).number("t"), Ok(Some(1)));
    }

    #[test]
    fn what_is_no_query_is_not_taken_for_one() {
        for query in ["", "a=1&b", "a=%41%5b", "%41=&&"] {
            assert_eq!(check_query(query), Ok(()), "{query}");
        }
        let message = |query| check_query(query).unwrap_err().message;
        assert_eq!(message("a=1;b=2"), "invalid semicolon separator in query");
        assert_eq!(message("a=%zz"), "invalid URL escape \"%zz\"");
        assert_eq!(message("a=%41%4"), "invalid URL escape \"%4\"");
        assert_eq!(message("%"), "invalid URL escape \"%\"");
    }

    #[test]
    fn escapes_spell_text_or_not() {
        for (escaped, expected) in
            [("/a%2Fb", true), ("/%C3%A4", true), ("/%FF", false), ("/%C3/", false), ("", true)]
        {
            assert_eq!(is_text(escaped), expected, "{escaped}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused_by_name() {
        let error = params(&[("h", "-4")]).number::<u16>("h").unwrap_err();
        assert_eq!(error.message, "invalid value for h: \"-4\"");
    }
}
