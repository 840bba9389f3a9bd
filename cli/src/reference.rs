//! Image names as users write and read them. The daemon resolves names; this only splits and shortens them.

/// Docker's registry, which familiar names leave out.
const DEFAULT_REGISTRY: &str = "docker.io/";
const DEFAULT_NAMESPACE: &str = "library/";

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

    /// `busybox:latest` for `docker.io/library/busybox`.
    pub(crate) fn familiar(&self) -> String {
        let name = self.name.strip_prefix(DEFAULT_REGISTRY).unwrap_or(self.name);
        let name = match name.strip_prefix(DEFAULT_NAMESPACE) {
            Some(rest) if !rest.contains('/') => rest,
            _ => name,
        };
        let tag = self.tag_or_latest().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{name}{tag}{digest}")
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
    fn ids_are_cut_to_twelve_digits() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("short"), "short");
    }
}
