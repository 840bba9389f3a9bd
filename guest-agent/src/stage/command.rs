//! Which file a command means: the lookup in PATH, and the words in which Docker reports that there is none.
//!
//! Looks, but does not execute; that is [`super::program`].

use std::path::{Path, PathBuf};

use berth_protocol::agent::ErrorCode;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use crate::failure::{Failure, errno_text};

/// The file to execute for `name`, as the user this process now is.
pub(super) fn find(name: &str, path: Option<&str>) -> Result<PathBuf, Failure> {
    if name.contains('/') {
        return match check_executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(error) => Err(error.report(name)),
        };
    }
    for directory in path.unwrap_or_default().split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        if check_executable(&candidate).is_ok() {
            return if candidate.is_absolute() { Ok(candidate) } else { Err(relative(name)) };
        }
    }
    Err(not_found(name, "executable file not found in $PATH"))
}

/// What is wrong with a file as a program.
enum NotExecutable {
    Stat(Errno),
    Access(Errno),
}

impl NotExecutable {
    fn report(self, name: &str) -> Failure {
        match self {
            Self::Stat(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
                not_found(name, &format!("stat {name}: {}", errno_text(errno)))
            }
            Self::Stat(errno) => not_executable(name, &format!("stat {name}: {}", errno_text(errno))),
            Self::Access(errno) => not_executable(name, &errno_text(errno)),
        }
    }
}

fn check_executable(file: &Path) -> Result<(), NotExecutable> {
    let stat = rustix::fs::stat(file).map_err(NotExecutable::Stat)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(NotExecutable::Access(Errno::ISDIR));
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(NotExecutable::Access(Errno::ACCESS));
    }
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).map_err(NotExecutable::Access)
}

fn not_found(name: &str, why: &str) -> Failure {
    Failure::new(ErrorCode::CommandNotFound, format!("exec: {name:?}: {why}"))
}

fn not_executable(name: &str, why: &str) -> Failure {
    Failure::new(ErrorCode::CommandNotExecutable, format!("exec: {name:?}: {why}"))
}

/// A relative directory in PATH must not decide what a bare name means.
fn relative(name: &str) -> Failure {
    not_executable(name, "cannot run executable found relative to current directory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn directory_with(name: &str, mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        directory
    }

    fn failure(name: &str, path: Option<&str>) -> (ErrorCode, String) {
        let failure = find(name, path).unwrap_err();
        (failure.code, failure.message)
    }

    #[test]
    fn the_first_executable_in_path_is_found() {
        let (wrong, right) = (directory_with("tool", 0o644), directory_with("tool", 0o755));
        let path = format!("/nowhere:{}:{}", wrong.path().display(), right.path().display());
        assert_eq!(find("tool", Some(&path)).unwrap(), right.path().join("tool"));
    }

    #[test]
    fn a_bare_name_is_missing_in_dockers_words() {
        let expected =
            (ErrorCode::CommandNotFound, "exec: \"nope\": executable file not found in $PATH".to_owned());
        assert_eq!(failure("nope", Some("/bin:/usr/bin")), expected);
        assert_eq!(failure("nope", None), expected);
    }

    #[test]
    fn a_path_is_missing_in_dockers_words() {
        let message = "exec: \"/no/such\": stat /no/such: no such file or directory".to_owned();
        assert_eq!(failure("/no/such", Some("/bin")), (ErrorCode::CommandNotFound, message));
    }

    #[test]
    fn what_cannot_be_executed_says_why() {
        let directory = directory_with("data", 0o644);
        let file = directory.path().join("data").display().to_string();
        let denied = (ErrorCode::CommandNotExecutable, format!("exec: \"{file}\": permission denied"));
        assert_eq!(failure(&file, None), denied);
        let message = "exec: \"/tmp\": is a directory".to_owned();
        assert_eq!(failure("/tmp", None), (ErrorCode::CommandNotExecutable, message));
    }

    #[test]
    fn a_relative_directory_in_path_does_not_count() {
        let relative = failure("src", Some("./relative-does-not-exist::"));
        assert_eq!(relative.0, ErrorCode::CommandNotFound);
    }
}
