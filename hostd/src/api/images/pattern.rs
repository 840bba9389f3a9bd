//! The `reference` filter: shell patterns over image names, as Docker matches them: against "name:tag" and "name".

use crate::api::error::ApiError;

/// Names have at most 255 characters; a longer pattern is no honest one.
const MAX_ELEMENTS: usize = 1024;

/// A shell pattern (Go's `path.Match`).
#[derive(Debug)]
pub(super) struct ReferencePattern(Vec<Element>);

#[derive(Debug, PartialEq, Eq)]
enum Element {
    /// `*`: any run of characters but `/`.
    Run,
    /// `?`: one of them.
    One,
    Literal(char),
    /// `[a-z_]`, `[^a-z_]`: one of these, or one of the others.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl ReferencePattern {
    /// # Errors
    /// What Docker calls a syntax error in a pattern: an unfinished class or escape.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let elements = elements(text).filter(|elements| elements.len() <= MAX_ELEMENTS);
        let invalid =
            || ApiError::invalid(format!("invalid filter 'reference={text}': syntax error in pattern"));
        elements.map(Self).ok_or_else(invalid)
    }

    pub(super) fn fits(&self, name: &str) -> bool {
        let without_digest = name.split_once('@').map(|(name, _)| name);
        let without_tag = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map(|(name, _)| name);
        let short = without_digest.or(without_tag);
        fits(&self.0, name) || short.is_some_and(|name| fits(&self.0, name))
    }
}

fn elements(text: &str) -> Option<Vec<Element>> {
    let mut characters = text.chars();
    let mut elements = Vec::new();
    while let Some(character) = characters.next() {
        elements.push(match character {
            '*' => Element::Run,
            '?' => Element::One,
            '\\' => Element::Literal(characters.next()?),
            '[' => class(&mut characters)?,
            other => Element::Literal(other),
        });
    }
    Some(elements)
}

/// What follows `[`, up to its `]`.
fn class(characters: &mut std::str::Chars<'_>) -> Option<Element> {
    let negated = characters.as_str().starts_with('^');
    if negated {
        characters.next();
    }
    let mut ranges = Vec::new();
    loop {
        if characters.as_str().starts_with(']') && !ranges.is_empty() {
            characters.next();
            return Some(Element::Class { negated, ranges });
        }
        let first = class_character(characters)?;
        let mut last = first;
        if characters.as_str().starts_with('-') {
            characters.next();
            last = class_character(characters)?;
        }
        ranges.push((first, last));
    }
}

fn class_character(characters: &mut std::str::Chars<'_>) -> Option<char> {
    match characters.next()? {
        '-' | ']' => None,
        '\\' => characters.next(),
        other => Some(other),
    }
}

impl Element {
    /// Whether this one character fits.
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Run => false,
            Self::One => character != '/',
            Self::Literal(literal) => *literal == character,
            Self::Class { negated, ranges } => {
                let among = ranges.iter().any(|(first, last)| (*first..=*last).contains(&character));
                among != *negated && character != '/'
            }
        }
    }
}

/// Walks both once and goes back only to the last `*`, so that no pattern takes more than the product of the lengths.
fn fits(pattern: &[Element], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut run: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Element::Run) => {
                run = Some((p, t));
                p += 1;
            }
            Some(element) if element.takes(text[t]) => (p, t) = (p + 1, t + 1),
            _ => match run {
                // Let the last star take one character more.
                Some((at, taken)) if text[taken] != '/' => {
                    run = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|element| *element == Element::Run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_with_and_without_their_tag() {
        for (pattern, name, expected) in [
            ("busybox", "busybox:latest", true),
            ("busy*", "busybox:latest", true),
            ("busybox:l?test", "busybox:latest", true),
            ("busybox:1", "busybox:latest", false),
            ("*", "a/b:1", false),
            ("*/*:1", "a/b:1", true),
            ("host:5000/*", "host:5000/a:1", true),
            ("*x*x*", "aaxbbxcc:1", true),
            ("b", "busybox:b", false),
            ("busybox", "busybox@sha256:00", true),
            ("[a-c]usybox", "busybox:latest", true),
            ("[^a-c]usybox", "busybox:latest", false),
            ("busybox:[0-9]", "busybox:1", true),
            (r"busybo\x", "busybox:1", true),
            (r"[\a-\c]*", "busybox:1", true),
            ("a[^x]b", "a/b:1", false),
        ] {
            assert_eq!(ReferencePattern::parse(pattern).unwrap().fits(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_unfinished_is_a_syntax_error() {
        for wrong in ["[", "[]", "[a", "[a-", "[a-]", "[-a]", r"a\", "[^]"] {
            assert_eq!(ReferencePattern::parse(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
