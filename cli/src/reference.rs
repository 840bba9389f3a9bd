//! Image names as users write and read them. The daemon resolves names; this only splits and shortens them.

/// Docker's registry, which familiar names leave out.
const DEFAULT_REGISTRY: &str = "docker.io/";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_DOMAIN: &str = "docker.io";

/// A name taken apart: `name[:tag][@digest]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    pub(crate) name: &'a str,
    pub(crate) tag: Option<&'a str>,
    pub(crate) digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        // A colon before the last slash belongs to a registry's port.
        match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => Self { name, tag: Some(tag), digest },
            _ => Self { name: rest, tag: None, digest },
        }
    }

    /// The tag that is meant: `latest`, if neither tag nor digest says otherwise.
    pub(crate) fn tag_or_latest(&self) -> Option<&'a str> {
        self.tag.or(if self.digest.is_none() { Some("latest") } else { None })
    }

    /// `docker.io/library/busybox:latest` for `busybox`.
    pub(crate) fn canonical(&self) -> String {
        format!("{}{}", self.canonical_repository(), self.selector())
    }

    /// `docker.io/library/busybox` for `busybox`.
    pub(crate) fn canonical_repository(&self) -> String {
        if domain(self.name) != DEFAULT_DOMAIN {
            return self.name.to_owned();
        }
        let path = self.name.strip_prefix(DEFAULT_REGISTRY).unwrap_or(self.name);
        let namespace = if path.contains('/') { "" } else { DEFAULT_NAMESPACE };
        format!("{DEFAULT_REGISTRY}{namespace}{path}")
    }

    /// `:tag`, `@digest`, or both.
    fn selector(&self) -> String {
        let tag = self.tag_or_latest().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }

    /// `busybox:latest` for `docker.io/library/busybox`.
    pub(crate) fn familiar(&self) -> String {
        let name = self.name.strip_prefix(DEFAULT_REGISTRY).unwrap_or(self.name);
        let name = match name.strip_prefix(DEFAULT_NAMESPACE) {
            Some(rest) if !rest.contains('/') => rest,
            _ => name,
        };
        format!("{name}{}", self.selector())
    }
}

/// The registry of an image's name: `localhost:5000` of `localhost:5000/a:b`, `docker.io` of `busybox`.
pub(crate) fn domain(name: &str) -> &str {
    // Without one of these the first component is a namespace of Docker Hub's.
    let looks_like_domain = |component: &str| {
        component.contains(['.', ':'])
            || component == "localhost"
            || component.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    match name.split_once('/') {
        Some((first, _)) if looks_like_domain(first) => first,
        _ => DEFAULT_DOMAIN,
    }
}

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_names_are_short_and_say_their_tag() {
        for (text, familiar) in [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1", "busybox:1"),
            ("docker.io/a/b", "a/b:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("localhost:5000/a:b", "localhost:5000/a:b"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(Reference::parse(text).familiar(), familiar);
        }
    }

    #[test]
    fn canonical_names_say_everything() {
        for (text, domain_of, canonical) in [
            ("busybox", "docker.io", "docker.io/library/busybox:latest"),
            ("a/b:1", "docker.io", "docker.io/a/b:1"),
            ("docker.io/busybox", "docker.io", "docker.io/library/busybox:latest"),
            ("docker.io/a/b", "docker.io", "docker.io/a/b:latest"),
            ("localhost:5000/a", "localhost:5000", "localhost:5000/a:latest"),
            ("localhost/a@sha256:00", "localhost", "localhost/a@sha256:00"),
        ] {
            assert_eq!(domain(text), domain_of);
            assert_eq!(Reference::parse(text).canonical(), canonical);
        }
    }

    #[test]
    fn ids_are_cut_to_twelve_digits() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("short"), "short");
    }
}
