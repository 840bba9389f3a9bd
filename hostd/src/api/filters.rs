//! The `filters` parameter: `{"status": {"running": true}}`, or the older `{"status": ["running"]}`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::ApiError;

/// What was asked for, by filter name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an object of flags or a list of strings")]
enum Values {
    Set(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    /// # Errors
    /// JSON of another shape, with Docker's text.
    pub(super) fn parse(json: &str) -> Result<Self, ApiError> {
        let parsed: BTreeMap<String, Values> = serde_json::from_str(json)
            .map_err(|error| ApiError::invalid(format!("invalid filter: {error}")))?;
        let values = |values| match values {
            Values::Set(set) => {
                set.into_iter().filter_map(|(value, wanted)| wanted.then_some(value)).collect()
            }
            Values::List(list) => list,
        };
        Ok(Self(parsed.into_iter().map(|(name, found)| (name, values(found))).collect()))
    }

    /// # Errors
    /// A filter Docker has and Berth has not, or one nobody has.
    pub(super) fn allow(&self, known: &[&str], later: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().map(String::as_str).find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) if later.contains(&name) => {
                Err(ApiError::not_supported(format!("the filter '{name}' is not supported by berth yet")))
            }
            Some(name) => Err(ApiError::invalid(format!("invalid filter '{name}'"))),
        }
    }

    pub(super) fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether any of the filter's values fits; true if it was not given.
    pub(super) fn any(&self, name: &str, fits: impl FnMut(&String) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(fits)
    }

    /// The filter's word for yes or no; nothing if it was not given.
    ///
    /// # Errors
    /// Both, or another word.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let invalid =
            || ApiError::invalid(format!("invalid filter '{name}=[{}]'", self.values(name).join(" ")));
        match self.values(name) {
            [] => Ok(None),
            [value] => match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
                _ => Err(invalid()),
            },
            _ => Err(invalid()),
        }
    }

    /// Whether every `label` value, "key" or "key=value", fits.
    pub(super) fn labels_fit(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label").iter().all(|wanted| is_among(wanted, labels))
    }

    /// Whether any value of the filter `name`, "key" or "key=value", is among the labels.
    pub(super) fn any_label(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(name).iter().any(|unwanted| is_among(unwanted, labels))
    }
}

/// "key" or "key=value".
fn is_among(wanted: &str, labels: &BTreeMap<String, String>) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

/// A name pattern: Docker takes regular expressions, of which these are what clients send: a part of the name, with
/// `^` and `$` to bind it to an end and `\` before a character that would mean something.
#[derive(Debug)]
pub(super) struct NamePattern {
    at_start: bool,
    at_end: bool,
    literal: String,
}

impl NamePattern {
    /// # Errors
    /// An expression beyond that.
    pub(super) fn parse(pattern: &str) -> Result<Self, ApiError> {
        let (at_start, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
        let (at_end, rest) = match rest.strip_suffix('$') {
            Some(before) if !before.ends_with('\\') => (true, before),
            _ => (false, rest),
        };
        let literal = unescape(rest).ok_or_else(|| {
            ApiError::not_supported(format!(
                "berth does not support the regular expression '{pattern}' in a filter; \
                 a part of the name, with ^ and $ at its ends, is possible"
            ))
        })?;
        Ok(Self { at_start, at_end, literal })
    }

    pub(super) fn fits(&self, text: &str) -> bool {
        match (self.at_start, self.at_end) {
            (true, true) => text == self.literal,
            (true, false) => text.starts_with(&self.literal),
            (false, true) => text.ends_with(&self.literal),
            (false, false) => text.contains(&self.literal),
        }
    }
}

fn unescape(pattern: &str) -> Option<String> {
    let mut literal = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => literal.push(characters.next().filter(char::is_ascii_punctuation)?),
            '*' | '+' | '?' | '[' | ']' | '(' | ')' | '{' | '}' | '|' | '^' | '$' => return None,
            // Also matches any other character in a regular expression; in names it means itself.
            other => literal.push(other),
        }
    }
    Some(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_mean_the_same() {
        let new = Filters::parse(r#"{"status":{"running":true,"exited":false}}"#).unwrap();
        let old = Filters::parse(r#"{"status":["running"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(new.values("status"), ["running"]);
        assert!(Filters::parse("[]").is_err());
    }

    #[test]
    fn an_unknown_filter_is_invalid_and_a_later_one_not_supported() {
        let filters = Filters::parse(r#"{"network":["x"]}"#).unwrap();
        assert_eq!(filters.allow(&["status"], &["network"]).unwrap_err().status, 501);
        assert_eq!(filters.allow(&["status"], &[]).unwrap_err().message, "invalid filter 'network'");
        assert_eq!(filters.allow(&["network"], &[]), Ok(()));
    }

    #[test]
    fn every_label_must_fit() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (json, expected) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=1","b"]}"#, true),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label":["a","c"]}"#, false),
            ("{}", true),
        ] {
            assert_eq!(Filters::parse(json).unwrap().labels_fit(&labels), expected, "{json}");
        }
    }

    #[test]
    fn a_name_pattern_is_a_part_of_the_name_that_may_be_bound_to_its_ends() {
        for (pattern, name, expected) in [
            ("we", "web", true),
            ("^web$", "web", true),
            ("^web$", "web2", false),
            ("^/web$", "/web", true),
            ("eb$", "web", true),
            (r"a\.b", "a.b", true),
        ] {
            assert_eq!(NamePattern::parse(pattern).unwrap().fits(name), expected, "{pattern} {name}");
        }
        assert_eq!(NamePattern::parse("a.*").unwrap_err().status, 501);
        assert!(NamePattern::parse(r"a\").is_err());
    }
}
