//! What comes to lie where: the table that `docker cp` documents, for both directions.

/// Why a copy cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misplaced {
    #[error("cannot copy directory")]
    DirectoryOntoFile,
    #[error("no such directory")]
    NoSuchDirectory,
}

/// What is at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Nothing,
    Directory,
    /// Anything else.
    File,
}

/// Where the archive's files go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// The directory that is written to; it has to exist.
    pub(super) directory: String,
    /// What the first entry is called there; "." for the directory itself, whose content is meant then.
    pub(super) name: String,
}

impl Placement {
    /// Of a source that is called `name`, "." if only its content is meant.
    pub(super) fn new(
        name: &str,
        is_directory: bool,
        destination: &str,
        target: Target,
    ) -> Result<Self, Misplaced> {
        match target {
            Target::Directory => Ok(Self { directory: destination.to_owned(), name: name.to_owned() }),
            Target::File if is_directory => Err(Misplaced::DirectoryOntoFile),
            Target::Nothing if !is_directory && means_directory(destination) => {
                Err(Misplaced::NoSuchDirectory)
            }
            Target::File | Target::Nothing => {
                let (directory, name) = split(destination);
                Ok(Self { directory: directory.to_owned(), name: name.to_owned() })
            }
        }
    }
}

/// "a/" and "a/." can only be directories.
pub(super) fn means_directory(path: &str) -> bool {
    path.ends_with('/') || base(path) == "."
}

/// The last name of a path; "." if its content is meant, "/" for the root.
pub(super) fn base(path: &str) -> &str {
    if path == "." || path.ends_with("/.") {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed.rsplit('/').next().unwrap_or(trimmed) }
}

/// The directory that a path is in, and its name there.
pub(super) fn split(path: &str) -> (&str, &str) {
    let path = path.strip_suffix("/.").unwrap_or(path).trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None if path.is_empty() => ("/", "."),
        None => (".", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_to_lie_where_docker_puts_it() {
        use Target::{Directory, File, Nothing};
        let placed = |name, is_directory, destination, target| {
            Placement::new(name, is_directory, destination, target)
                .map(|placement| format!("{} {}", placement.directory, placement.name))
        };
        for (name, is_directory, destination, target, expected) in [
            ("f", false, "/d", Directory, "/d f"),
            ("f", false, "/d/", Directory, "/d/ f"),
            ("f", false, "/d/g", File, "/d g"),
            ("f", false, "/d/g", Nothing, "/d g"),
            ("f", false, "/g", Nothing, "/ g"),
            ("f", false, "g", Nothing, ". g"),
            ("d", true, "/e", Directory, "/e d"),
            (".", true, "/e", Directory, "/e ."),
            ("d", true, "/e/new", Nothing, "/e new"),
            (".", true, "/e/new/", Nothing, "/e new"),
            ("d", true, "/e/new/.", Nothing, "/e new"),
        ] {
            let found = placed(name, is_directory, destination, target);
            assert_eq!(found.as_deref(), Ok(expected), "{name} {destination}");
        }
        assert_eq!(placed("d", true, "/f", File), Err(Misplaced::DirectoryOntoFile));
        assert_eq!(placed("f", false, "/new/", Nothing), Err(Misplaced::NoSuchDirectory));
        assert_eq!(placed("f", false, "/new/.", Nothing), Err(Misplaced::NoSuchDirectory));
    }

    #[test]
    fn a_path_has_a_last_name() {
        for (path, expected) in
            [("/a/b", "b"), ("/a/b/", "b"), ("/a/.", "."), (".", "."), ("/", "/"), ("b", "b")]
        {
            assert_eq!(base(path), expected, "{path}");
        }
    }
}
