//! The mount namespace of a share server, and visits there.
//!
//! A thread that visits a namespace never comes back: each visit is a thread of its own, which ends with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};

use super::server::Server;

/// The namespace, and how one tells that the server has made itself at home in it.
#[derive(Debug)]
pub(super) struct ServerNamespace {
    namespace: File,
    tree: Identity,
}

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: impl AsRef<Path>) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl ServerNamespace {
    /// `None` if the server has not come as far, or is gone.
    pub(super) fn find(server: &Server, tree: &Path) -> io::Result<Option<Self>> {
        let tree = Identity::of(tree)?;
        for child in server.children() {
            let is_home = Identity::of(format!("/proc/{child}/root")).is_ok_and(|root| root == tree);
            if is_home && let Ok(namespace) = File::open(format!("/proc/{child}/ns/mnt")) {
                return Ok(Some(Self { namespace, tree }));
            }
        }
        Ok(None)
    }

    /// Runs `visit` in the namespace, whose root is the tree of shares; `None` if it is not, or not yet.
    pub(super) async fn run<T: Send + 'static>(
        self,
        visit: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<Option<T>> {
        on_own_thread(move || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.namespace, CloneFlags::CLONE_NEWNS)?;
            // A process's number may have become another's, and a server that starts has the host's root at first.
            if Identity::of("/")? == self.tree { visit().map(Some) } else { Ok(None) }
        })
        .await
    }
}

/// For what a thread must not come back from, as it has changed its own namespaces.
pub(crate) async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, done) = tokio::sync::oneshot::channel();
    let body = move || {
        // If nobody waits any more, what was done stays done.
        let _unwanted: Result<(), _> = sender.send(work());
    };
    std::thread::Builder::new().name("mounts".into()).spawn(body)?;
    done.await.map_err(io::Error::other)?
}
