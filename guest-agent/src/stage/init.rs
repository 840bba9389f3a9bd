//! The init of a container that asked for one: first process of its PID namespace, parent of the program.
//!
//! It passes every signal on to the program, reaps whatever is orphaned in the namespace, and ends as the program does.

use std::process::ExitCode;

use berth_protocol::agent::{ErrorCode, Process};
use rustix::process::{Pid, PidfdFlags, pidfd_open, setpgid};

use super::environment::Environment;
use super::report::Reporter;
use super::users::User;
use super::{privileges, program};
use crate::failure::{During, Failure};
use crate::sys::{self, End};

/// Starts the program as a child and serves it until it ends.
pub(super) fn run(
    reporter: &Reporter,
    process: &Process,
    user: &User,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    // From before there is a child: its end must find the signal blocked, or it is forgotten.
    sys::block_signals();
    let Some(pid) = sys::fork_single_threaded().during(ErrorCode::Internal, || "fork the init's child")?
    else {
        become_foreground(process.terminal)?;
        return Err(program::execute(reporter, process, user, environment));
    };
    // The report ends with the child's execution, so this process must not hold it open.
    reporter.close();
    close_stdio().during(ErrorCode::Internal, || "let go of the program's streams")?;
    privileges::restrict_init(process)?;
    serve(pid).during(ErrorCode::Internal, || "serve as init")
}

/// The child's own process group gets what is typed: an interrupt is for the program, not for its init. All signals are
/// still blocked here, SIGTTOU among them, which would stop a background process that asks for the foreground.
fn become_foreground(has_terminal: bool) -> Result<(), Failure> {
    setpgid(None, None).during(ErrorCode::Internal, || "start a process group")?;
    if has_terminal {
        let group = rustix::process::getpgrp();
        rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group)
            .during(ErrorCode::Internal, || "take the terminal's foreground")?;
    }
    Ok(())
}

/// The end of the program's output must be the program's to say.
fn close_stdio() -> std::io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

fn serve(child: i32) -> std::io::Result<ExitCode> {
    let pid = Pid::from_raw(child).ok_or_else(|| std::io::Error::other("the child's pid is not positive"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        while let Some((pid, end)) = sys::reap_any() {
            if pid == child {
                return Ok(exit_code(end));
            }
        }
        match sys::next_signal() {
            // A terminal's complaints concern the process that it stopped, which is never this one.
            libc::SIGCHLD | libc::SIGTTIN | libc::SIGTTOU | ..=0 => {}
            // A program that has ended in this moment is reaped in the next round.
            number => drop(sys::signal(&pidfd, number)),
        }
    }
}

fn exit_code(end: End) -> ExitCode {
    let code = match end {
        End::Exited(code) => code,
        End::Killed { signal } => 128 + signal,
    };
    ExitCode::from(u8::try_from(code & 0xff).expect("masked to a byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_ends_as_its_program_did() {
        assert_eq!(exit_code(End::Exited(3)), ExitCode::from(3));
        assert_eq!(exit_code(End::Killed { signal: 9 }), ExitCode::from(137));
    }
}
