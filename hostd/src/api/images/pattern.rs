//! The `reference` filter: shell patterns over image names, as Docker matches them: against "name:tag" and "name".

use crate::api::error::ApiError;

#[derive(Debug)]
pub(super) struct ReferencePattern(String);

impl ReferencePattern {
    /// # Errors
    /// Character classes, which nobody writes.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        if text.contains(['[', '\\']) {
            let message = format!("berth does not support '[' and '\\' in the filter reference={text} yet");
            return Err(ApiError::not_supported(message));
        }
        Ok(Self(text.to_owned()))
    }

    pub(super) fn fits(&self, name: &str) -> bool {
        let without_tag = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map(|(name, _)| name);
        fits(&self.0, name) || without_tag.is_some_and(|name| fits(&self.0, name))
    }
}

/// `*` is any run of characters but `/`, `?` is one of them. Walks both once and goes back only to the last `*`, so
/// that no pattern takes more than the product of the lengths.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') if text[t] != b'/' => (p, t) = (p + 1, t + 1),
            Some(&byte) if byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                // Let the last star take one character more.
                Some((at, taken)) if text[taken] != b'/' => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
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
        ] {
            assert_eq!(ReferencePattern::parse(pattern).unwrap().fits(name), expected, "{pattern} {name}");
        }
        assert_eq!(ReferencePattern::parse("[ab]").unwrap_err().status, 501);
    }
}
