//! The user's terminal: is there one, how large is it, and raw mode that is undone on every way out.

use std::io;

/// In characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

impl Size {
    /// The terminal that standard output is, or nothing if it is none or has no size.
    pub(crate) fn of_stdout() -> Option<Self> {
        platform::size().filter(|size| size.rows > 0 && size.columns > 0)
    }

    /// `[height, width]`, as the API wants it.
    pub(crate) fn as_api(self) -> [u16; 2] {
        [self.rows, self.columns]
    }
}

/// Standard input's terminal in raw mode: every key goes to the container. Dropping it restores the terminal, so that
/// a return, an error and a panic all do; signals are turned into returns by [`crate::session`].
pub(crate) struct RawMode {
    saved: platform::Saved,
}

impl RawMode {
    /// # Errors
    /// When the terminal refuses, or this system has none that we can set.
    pub(crate) fn enter() -> io::Result<Self> {
        Ok(Self { saved: platform::make_raw()? })
    }
}

/// Standard input's terminal shows nothing that is typed, for a password. Dropping it restores the terminal.
pub(crate) struct NoEcho {
    saved: platform::Saved,
}

impl NoEcho {
    /// # Errors
    /// When the terminal refuses, or this system has none that we can set.
    pub(crate) fn enter() -> io::Result<Self> {
        Ok(Self { saved: platform::hide_input()? })
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        platform::restore(&self.saved);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        platform::restore(&self.saved);
    }
}

#[cfg(unix)]
mod platform {
    use std::io;

    use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

    use super::Size;

    pub(super) type Saved = Termios;

    pub(super) fn size() -> Option<Size> {
        let stdout = rustix::stdio::stdout();
        let size = isatty(stdout).then(|| tcgetwinsize(stdout).ok())??;
        Some(Size { rows: size.ws_row, columns: size.ws_col })
    }

    pub(super) fn make_raw() -> io::Result<Saved> {
        let saved = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(saved)
    }

    pub(super) fn hide_input() -> io::Result<Saved> {
        let saved = tcgetattr(rustix::stdio::stdin())?;
        let mut hidden = saved.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // What was typed before the question is no answer to it.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(saved)
    }

    pub(super) fn restore(saved: &Saved) {
        // A terminal that has gone away has nothing left to restore.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;

    use super::Size;

    pub(super) struct Saved;

    pub(super) fn size() -> Option<Size> {
        None
    }

    pub(super) fn make_raw() -> io::Result<Saved> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "-t with -i is not supported on this system yet"))
    }

    pub(super) fn hide_input() -> io::Result<Saved> {
        let reason = "this system cannot hide what is typed yet: use --password-stdin";
        Err(io::Error::new(io::ErrorKind::Unsupported, reason))
    }

    pub(super) fn restore(_saved: &Saved) {}
}
