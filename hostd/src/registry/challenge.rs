//! `WWW-Authenticate` (RFC 9110, section 11.6.1): how a registry wants us to prove who we are.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// More text than that is no challenge.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Challenges and parameters, each.
const MAX_ITEMS: usize = 32;

/// A way to prove who we are that Docker's dialect knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer(Bearer),
}

/// Where tokens are to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: Option<String>,
    /// What was wrong with the token that was sent (RFC 6750, section 3.1).
    pub(super) error: Option<String>,
    pub(super) error_description: Option<String>,
}

/// The challenge to answer: the token server if there is one, passwords otherwise.
pub(super) fn preferred(headers: &HeaderMap) -> Option<Challenge> {
    let mut challenges = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .take(MAX_ITEMS)
        .filter_map(|value| value.to_str().ok())
        .filter(|text| text.len() <= MAX_HEADER_BYTES)
        .flat_map(parse)
        .collect::<Vec<_>>();
    let bearer = challenges.iter().position(|challenge| matches!(challenge, Challenge::Bearer(_)));
    (!challenges.is_empty()).then(|| challenges.swap_remove(bearer.unwrap_or(0)))
}

/// All challenges of a field that we understand; what is malformed ends the list.
fn parse(text: &str) -> Vec<Challenge> {
    let mut rest = Cursor(text);
    let mut challenges: Vec<Option<Challenge>> = Vec::new();
    for _ in 0..MAX_ITEMS * MAX_ITEMS {
        rest.skip_separators();
        let Some(word) = rest.token() else { break };
        match rest.value() {
            Some(value) => {
                if let Some(Some(Challenge::Bearer(bearer))) = challenges.last_mut() {
                    bearer.set(word, value);
                }
            }
            // A word without a value begins the next challenge.
            None => challenges.push(scheme(word)),
        }
        if challenges.len() > MAX_ITEMS {
            break;
        }
    }
    let usable = |challenge: &Challenge| !matches!(challenge, Challenge::Bearer(b) if b.realm.is_empty());
    challenges.into_iter().flatten().filter(usable).collect()
}

fn scheme(word: &str) -> Option<Challenge> {
    if word.eq_ignore_ascii_case("bearer") {
        return Some(Challenge::Bearer(Bearer::default()));
    }
    word.eq_ignore_ascii_case("basic").then_some(Challenge::Basic)
}

impl Bearer {
    fn set(&mut self, name: &str, value: String) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => self.realm = value,
            "service" => self.service = Some(value),
            "scope" => self.scope = Some(value),
            "error" => self.error = Some(value),
            "error_description" => self.error_description = Some(value),
            _ => {}
        }
    }
}

struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn skip_separators(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// `=value` or `= "quoted \" value"`, if that is what follows.
    fn value(&mut self) -> Option<String> {
        let after = self.0.trim_start_matches([' ', '\t']).strip_prefix('=')?;
        let after = after.trim_start_matches([' ', '\t']);
        let Some(quoted) = after.strip_prefix('"') else {
            let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
            let (value, rest) = after.split_at(end);
            self.0 = rest;
            return Some(value.to_owned());
        };
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next() {
                Some('\\') => value.extend(characters.next()),
                // A quote that is never closed: the rest is the value.
                Some('"') | None => break,
                Some(other) => value.push(other),
            }
        }
        self.0 = characters.as_str();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[&str]) -> HeaderMap {
        fields.iter().map(|field| (WWW_AUTHENTICATE, field.parse().unwrap())).collect()
    }

    fn bearer(realm: &str) -> Bearer {
        Bearer { realm: realm.to_owned(), ..Bearer::default() }
    }

    #[test]
    fn the_fields_of_real_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push",error="insufficient_scope""#;
        let expected = Bearer {
            service: Some("registry.example".into()),
            scope: Some("repository:a/b:pull,push".into()),
            error: Some("insufficient_scope".into()),
            ..bearer("https://auth.example/token")
        };
        assert_eq!(preferred(&headers(&[hub])), Some(Challenge::Bearer(expected)));
        assert_eq!(preferred(&headers(&[r#"Basic realm="Registry Realm""#])), Some(Challenge::Basic));
        assert_eq!(preferred(&headers(&["basic"])), Some(Challenge::Basic));
    }

    #[test]
    fn among_several_challenges_tokens_win() {
        let expected = Some(Challenge::Bearer(bearer("https://a/t")));
        for fields in [
            &[r#"Basic realm="x", Bearer realm="https://a/t""#][..],
            &[r#"Basic realm="a, Bearer b=c", bEARER realm = "https://a/t""#],
            &["Negotiate", r#"Basic realm="x""#, "Bearer realm=https://a/t"],
            &[r#"Negotiate abc=, Bearer realm="https://\a/t""#],
        ] {
            assert_eq!(preferred(&headers(fields)), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for field in ["", ",", "=", "Bearer", "Bearer service=x", "Digest realm=x", "\"Basic\""] {
            assert_eq!(preferred(&headers(&[field])), None, "{field}");
        }
        let endless = "Basic,".repeat(MAX_HEADER_BYTES);
        assert_eq!(preferred(&headers(&[&endless])), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~]{0,200}") {
            preferred(&headers(&[&text]));
        }
    }
}
