//! The last steps of a process before it is the program that was asked for.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use berth_protocol::agent::{ErrorCode, Process};
use rustix::fs::Mode;
use rustix::io::Errno;

use super::environment::Environment;
use super::report::Reporter;
use super::users::User;
use super::{command, limits, privileges};
use crate::failure::{During, Failure, errno_text};
use crate::sys;

/// Becomes the program. Comes back only with the reason why it could not.
pub(super) fn execute(
    reporter: &Reporter,
    process: &Process,
    user: &User,
    environment: &Environment,
) -> Failure {
    match try_execute(reporter, process, user, environment) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_execute(
    reporter: &Reporter,
    process: &Process,
    user: &User,
    environment: &Environment,
) -> Result<std::convert::Infallible, Failure> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    enter_directory(process, user)?;
    let name = process.args.first().ok_or_else(|| Failure::invalid("no command specified"))?;
    let file = command::find(name, environment.get("PATH"))?;
    let path = c_string(file.as_os_str().as_bytes())?;
    let arguments = process.args.iter().map(|argument| c_string(argument.as_bytes()));
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let variables = environment.to_c_strings()?;
    sys::reset_signals();
    reporter.executing().during(ErrorCode::Internal, || "report to the agent")?;
    privileges::seal(process)?;
    nix::unistd::execve(&path, &arguments, &variables)
        .map_err(|errno| not_executed(&file, Errno::from_raw_os_error(errno as i32)))
}

/// Enters the directory and becomes the user. Root may enter where the user may not, and the other way round where root
/// is nobody (network file systems), so the entering is tried on both sides.
fn enter_directory(process: &Process, user: &User) -> Result<(), Failure> {
    let directory = process.working_directory.as_str();
    let entered = rustix::process::chdir(directory);
    limits::set(&process.limits)?;
    privileges::drop_to(user, process)?;
    let entered = match entered {
        Err(Errno::ACCESS | Errno::PERM) => rustix::process::chdir(directory),
        entered => entered,
    };
    entered.map_err(|errno| {
        let why = errno_text(errno);
        let message = format!("chdir to cwd ({directory:?}) set in config.json failed: {why}");
        Failure::new(ErrorCode::BadWorkingDirectory, message)
    })
}

fn c_string(bytes: &[u8]) -> Result<CString, Failure> {
    CString::new(bytes).during(ErrorCode::InvalidRequest, || "command")
}

fn not_executed(file: &Path, errno: Errno) -> Failure {
    let code = match errno {
        // The file is there, as the lookup has shown: its interpreter is not.
        Errno::NOENT => ErrorCode::CommandNotFound,
        _ => ErrorCode::CommandNotExecutable,
    };
    Failure::new(code, format!("exec {}: {}", file.display(), errno_text(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_program_is_reported_in_dockers_words() {
        let failure = not_executed(Path::new("/bin/data"), Errno::NOEXEC);
        assert_eq!(failure.message, "exec /bin/data: exec format error");
        assert_eq!(failure.code, ErrorCode::CommandNotExecutable);
        assert_eq!(not_executed(Path::new("/x"), Errno::NOENT).code, ErrorCode::CommandNotFound);
    }
}
