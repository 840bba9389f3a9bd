//! Where a walk is: the directories above the present entry, and the names in them that are still to be visited.

use std::io;

use super::names::{self, Names};

/// Names that are still to be visited, of all directories above and of the present one.
const MAX_WAITING_BYTES: usize = 2 * names::MAX_BYTES;

/// The directories that are being visited, the innermost last, each with what the walk has to know of it.
#[derive(Debug)]
pub(super) struct Levels<S> {
    levels: Vec<Level<S>>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Level<S> {
    /// What stands before the names.
    prefix: Vec<u8>,
    names: Names,
    state: S,
}

impl<S> Default for Levels<S> {
    fn default() -> Self {
        Self { levels: Vec::new(), held_bytes: 0 }
    }
}

impl<S> Levels<S> {
    /// Enters a directory by its path; the walk's root has an empty one.
    ///
    /// # Errors
    /// There are too many names on the way to it.
    pub(super) fn push(&mut self, path: &[u8], names: Names, state: S) -> io::Result<()> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        self.held_bytes += names.held_bytes();
        if self.held_bytes > MAX_WAITING_BYTES {
            return Err(io::Error::other("the names in it and above it are too many"));
        }
        self.levels.push(Level { prefix, names, state });
        Ok(())
    }

    /// The next path, relative to the root.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let Level { prefix, names, .. } = self.levels.last_mut()?;
            let held_bytes = names.held_bytes();
            if let Some(name) = names.next() {
                let path = [prefix.as_slice(), name].concat();
                self.held_bytes -= size_of::<u32>();
                return Some(path);
            }
            self.held_bytes -= held_bytes;
            self.levels.pop();
        }
    }

    /// What is known of the directory that the last path is in.
    pub(super) fn innermost(&self) -> Option<&S> {
        self.levels.last().map(|level| &level.state)
    }

    /// Of all directories above the last path, the outermost first.
    pub(super) fn states_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.levels.iter_mut().map(|level| &mut level.state)
    }
}
