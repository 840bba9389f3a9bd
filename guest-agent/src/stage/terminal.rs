//! A process's terminal: made in the container's own /dev/pts, so that it has a name there.
//!
//! The master goes to the agent, the other side becomes the standard streams and the controlling terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_protocol::agent::{ErrorCode, TerminalSize};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::Winsize;

use super::mounts;
use super::report::Reporter;
use crate::failure::{During, Failure};

/// Opens it, and for a new container binds it to /dev/console as well.
pub(super) fn open(reporter: &Reporter, size: TerminalSize, is_console: bool) -> Result<(), Failure> {
    let (master, terminal) = open_pair().during(ErrorCode::Internal, || "open a terminal")?;
    resize(master.as_fd(), size).during(ErrorCode::Internal, || "size the terminal")?;
    reporter.terminal(master.as_fd()).during(ErrorCode::Internal, || "hand over the terminal")?;
    if is_console {
        bind_console(&master).during(ErrorCode::MountFailed, || "mount /dev/console")?;
    }
    become_controlling(&terminal).during(ErrorCode::Internal, || "take the terminal")
}

/// Sets rows and columns; larger than a terminal can be is as large as it can be. Zero by zero means nothing to say.
///
/// # Errors
/// What the ioctl returned.
pub(crate) fn resize(master: BorrowedFd<'_>, size: TerminalSize) -> rustix::io::Result<()> {
    if (size.rows, size.columns) == (0, 0) {
        return Ok(());
    }
    let bounded = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    let size =
        Winsize { ws_row: bounded(size.rows), ws_col: bounded(size.columns), ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size)
}

fn open_pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    unlockpt(&master)?;
    let terminal =
        ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok((master, terminal))
}

fn bind_console(master: &OwnedFd) -> std::io::Result<()> {
    let name = ptsname(master, Vec::new())?;
    mounts::make_file("/dev/console".as_ref())?;
    Ok(rustix::mount::mount_bind(name.as_c_str(), "/dev/console")?)
}

fn become_controlling(terminal: &OwnedFd) -> rustix::io::Result<()> {
    dup2_stdin(terminal)?;
    dup2_stdout(terminal)?;
    dup2_stderr(terminal)?;
    rustix::process::ioctl_tiocsctty(terminal)
}
