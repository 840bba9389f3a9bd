//! How people name images: Docker's short forms, and the one canonical form behind them.
//!
//! `busybox` is `docker.io/library/busybox:latest`. Looks nothing up: [`super::ImageStore::resolve`] does.

use std::fmt;
use std::net::Ipv6Addr;

use super::digest::{Digest, InvalidDigest};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
/// The namespace of images that are named by one word.
const OFFICIAL_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_REPOSITORY_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// A repository in canonical form: domain and path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    canonical: String,
}

/// What of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    Tag(String),
    /// The digest of a manifest; a tag written before it is ignored, as Docker does.
    Manifest(Digest),
}

/// A repository and a tag or digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    pub repository: Repository,
    pub selector: Selector,
}

/// Text that names no image; worded as Docker words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    #[error("invalid reference format: {text:?}")]
    Format { text: String },
    #[error("invalid reference format: repository name ({name}) must be lowercase")]
    Uppercase { name: String },
    #[error(
        "invalid reference format: repository name must not be more than {MAX_REPOSITORY_BYTES} characters"
    )]
    TooLong,
    #[error("invalid reference format")]
    Digest(#[from] InvalidDigest),
}

impl Reference {
    /// Parses a familiar or canonical name; without tag and digest, `latest` is meant.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let malformed = || InvalidReference::Format { text: text.chars().take(256).collect() };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to the domain's port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(malformed());
        }
        let repository = Repository::parse(name).map_err(|error| match error {
            InvalidReference::Format { .. } => malformed(),
            other => other,
        })?;
        let tag = || Selector::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned());
        Ok(Self { repository, selector: digest.map_or_else(tag, Selector::Manifest) })
    }

    /// As people write it: `busybox:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        format!("{}{}", self.repository.familiar(), self.selector)
    }

    /// With everything said: `docker.io/library/busybox:latest`.
    #[must_use]
    pub fn canonical(&self) -> String {
        format!("{}{}", self.repository.canonical(), self.selector)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Manifest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl Repository {
    /// Parses a name without tag and digest.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn parse(name: &str) -> Result<Self, InvalidReference> {
        let malformed = || InvalidReference::Format { text: name.chars().take(256).collect() };
        // 64 digits are an image's id: a repository of that name could never be addressed.
        if Digest::from_hex(name).is_ok() {
            return Err(malformed());
        }
        let (domain, path) = match name.split_once('/') {
            Some((domain, path)) if looks_like_domain(domain) => (domain, path),
            _ => (DEFAULT_DOMAIN, name),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidReference::Uppercase { name: path.chars().take(256).collect() });
        }
        if !is_domain(domain) || !path.split('/').all(is_path_component) {
            return Err(malformed());
        }
        let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
        let official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let namespace = if official { OFFICIAL_NAMESPACE } else { "" };
        let canonical = format!("{domain}/{namespace}{path}");
        if canonical.len() > MAX_REPOSITORY_BYTES {
            return Err(InvalidReference::TooLong);
        }
        Ok(Self { canonical })
    }

    /// `docker.io/library/busybox`.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The registry's host, with its port if it has one: `docker.io`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.split().0
    }

    /// The name within the registry: `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.split().1
    }

    fn split(&self) -> (&str, &str) {
        self.canonical.split_once('/').expect("the canonical form has a domain and a path")
    }

    /// `busybox`.
    #[must_use]
    pub fn familiar(&self) -> &str {
        let Some(path) = self.canonical.strip_prefix("docker.io/") else { return &self.canonical };
        match path.strip_prefix(OFFICIAL_NAMESPACE) {
            Some(name) if !name.contains('/') => name,
            _ => path,
        }
    }
}

/// The first component is a domain if it could not be a plain path component.
fn looks_like_domain(component: &str) -> bool {
    component.contains(['.', ':'])
        || component == "localhost"
        || component.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(text: &str) -> bool {
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = port.strip_prefix(':').unwrap_or(if port.is_empty() { "0" } else { "" });
        return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
    }
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(label) && is_port(port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case words joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let joined_well = text
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'));
    let (first, last) = (text.bytes().next(), text.bytes().last());
    joined_well && first.is_some_and(is_word) && last.is_some_and(is_word)
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = text.bytes().next().is_some_and(is_word);
    first && text.len() <= MAX_TAG_BYTES && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_have_a_familiar_and_a_canonical_form() {
        for (text, familiar, canonical) in [
            ("busybox", "busybox:latest", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/library/busybox", "busybox:latest", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox", "busybox:latest", "docker.io/library/busybox:latest"),
            ("grafana/grafana", "grafana/grafana:latest", "docker.io/grafana/grafana:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000/a:b"),
            ("ghcr.io/a/b__c-d.e", "ghcr.io/a/b__c-d.e:latest", "ghcr.io/a/b__c-d.e:latest"),
            ("a---b", "a---b:latest", "docker.io/library/a---b:latest"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("[fd00::1]/a", "[fd00::1]/a:latest", "[fd00::1]/a:latest"),
            ("Registry/a", "Registry/a:latest", "Registry/a:latest"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(reference.canonical(), canonical);
            let (domain, path) = (reference.repository.domain(), reference.repository.path());
            assert_eq!(format!("{domain}/{path}{}", reference.selector), canonical);
            assert_eq!(Reference::parse(&reference.familiar()), Ok(reference.clone()));
            assert_eq!(Reference::parse(&reference.canonical()), Ok(reference));
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let reference = Reference::parse(&format!("busybox:1.36@{DIGEST}")).unwrap();
        assert_eq!(reference.familiar(), format!("busybox@{DIGEST}"));
    }

    #[test]
    fn malformed_names_are_refused_in_dockers_words() {
        let long = "a".repeat(300);
        let digits = DIGEST.trim_start_matches("sha256:");
        for text in [
            "", ":", "a:", "a:-b", "/a", "a//b", "a/", "-a", "a_", "a___b", "a..b", "..", "../a", "a b",
            "[::1]", "[::1]x/a", "[::1]:/a", "[x]/a", "[::1/a", "a@b", "é",
        ]
        .into_iter()
        .chain([long.as_str(), digits, "host:port/a", "a@sha256:12"])
        {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("invalid reference format"), "{text}: {error}");
        }
        let error = Reference::parse("BusyBox").unwrap_err().to_string();
        assert_eq!(error, "invalid reference format: repository name (BusyBox) must be lowercase");
    }
}
