//! One side of a copy: `CONTAINER:PATH`, or a path of ours, which begins with "/" or "." if it has a colon.

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endpoint<'a> {
    Local(&'a str),
    InContainer { container: &'a str, path: &'a str },
}

impl<'a> Endpoint<'a> {
    pub(super) fn parse(argument: &'a str) -> Self {
        match argument.split_once(':') {
            Some((container, path)) if !container.is_empty() && !argument.starts_with(['/', '.']) => {
                Self::InContainer { container, path }
            }
            _ => Self::Local(argument),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_container_unless_the_path_is_explicit() {
        for local in ["file", "./a:b", "/a:b", "../x:y", "-", ""] {
            assert_eq!(Endpoint::parse(local), Endpoint::Local(local));
        }
        let found = Endpoint::parse("web:/a:b");
        assert_eq!(found, Endpoint::InContainer { container: "web", path: "/a:b" });
    }
}
