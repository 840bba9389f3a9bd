//! What of the shares a machine's processes watch, watched on the host for them: what others than the machine do to it.
//!
//! Looks at nothing that nobody in the machine watches, and takes no place at the kernel's before somebody does. What
//! the machine's own server does is left out: its kernel has said it already.

mod marks;
mod record;
mod translate;

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use berth_protocol::agent::{ShareChange, ShareWatch};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat, stat};

use super::Shares;
use marks::Marks;

/// At least one record of the kernel's, whatever the names in it.
const READ_BYTES: usize = 64 << 10;

/// The watches of one machine.
#[derive(Debug)]
pub(crate) struct ShareWatcher {
    /// `None` only while a thread works on them.
    marks: Option<Marks>,
    buffer: Vec<u8>,
}

impl Shares {
    /// # Errors
    /// The server is gone.
    pub(crate) fn watcher(&self) -> io::Result<ShareWatcher> {
        let (root, server) = self.root_of_server()?;
        Ok(ShareWatcher { marks: Some(Marks::new(root, server)), buffer: vec![0; READ_BYTES] })
    }

    /// The tree as the server has it, with all that is shared mounted in it, and the server's processes.
    fn root_of_server(&self) -> io::Result<(OwnedFd, Vec<u32>)> {
        let tree = stat(&self.tree)?;
        let children = self.server.children();
        let roots = children.iter().map(|child| Path::new("/proc").join(child.to_string()).join("root"));
        let as_path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = roots.filter_map(|root| openat(CWD, &root, as_path, Mode::empty()).ok());
        let is_tree = |root: &OwnedFd| {
            fstat(root).is_ok_and(|found| (found.st_dev, found.st_ino) == (tree.st_dev, tree.st_ino))
        };
        let root = opened.into_iter().find(is_tree).ok_or_else(super::no_server)?;
        Ok((root, children))
    }
}

impl ShareWatcher {
    /// Watches what the machine says it watches, and no longer what it does not.
    ///
    /// # Errors
    /// The host lets nobody watch anything; single files that cannot be watched are left out.
    pub(crate) async fn apply(&mut self, said: Vec<ShareWatch>) -> io::Result<()> {
        let mut marks = self.marks.take().ok_or_else(lost)?;
        // The file system may be a slow one.
        let work = move || {
            let applied = marks.apply(said);
            (marks, applied)
        };
        let (marks, applied) = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
        self.marks = Some(marks);
        applied
    }

    /// Watches nothing any more.
    pub(crate) fn forget(&mut self) {
        if let Some(marks) = &mut self.marks {
            marks.forget();
        }
    }

    /// Waits for what happens to it. Cancel-safe.
    ///
    /// # Errors
    /// The kernel says nothing any more.
    pub(crate) async fn changes(&mut self) -> io::Result<Vec<ShareChange>> {
        let marks = self.marks.as_mut().ok_or_else(lost)?;
        let Some(queue) = marks.queue() else { return pending().await };
        loop {
            queue.readable().await?;
            match queue.try_read(&mut self.buffer) {
                Ok(count) => return Ok(marks.translate(&self.buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn lost() -> io::Error {
    io::Error::other("a thread that worked on watches has panicked")
}

#[cfg(test)]
mod tests;
