//! The shares of a machine: host directories and files in its guest, each under a name, which come and go while it runs.
//!
//! One server for each machine, `virtiofsd`, shows one directory: the tree of shares. What is shared is mounted into that
//! tree in the *server's* mount namespace and nowhere else. So no mount can outlive the server, whoever is killed when;
//! the host's own table of mounts never has an entry of ours; and a state directory can be removed without looking,
//! for on the host the tree holds empty directories and files alone. The server in turn ends with its one connection,
//! which the machine has. docs/security.md says what it is left of the host.

mod mounts;
mod namespace;
mod server;
mod watch;

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_protocol::shares::{TAG, is_name};
use berth_vmm::config::ShareConfig;
use rustix::fs::{FileType, Mode, OFlags};

use namespace::ServerNamespace;
pub(crate) use namespace::on_own_thread;
use server::Server;
pub(crate) use watch::ShareWatcher;

/// Below the state directory: the tree, and the socket on which the server is reached.
const TREE: &str = "shares";
const SOCKET: &str = "shares.sock";

/// It makes its namespaces before it does anything else.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at a server that starts.
const START_PAUSE: Duration = Duration::from_millis(2);

/// What the guest may do with a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShareAccess {
    ReadOnly,
    ReadWrite,
}

/// What becomes of what is mounted below something that is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SharedBelow {
    /// The guest may do with it what it may do with the share.
    #[default]
    Alike,
    /// The guest may write there even if the share is read-only, unless the host itself may not.
    Writable,
    /// The guest sees what lies under it.
    Nothing,
}

/// What is to be shared, under which name.
#[derive(Debug)]
pub(crate) struct NewShare {
    pub(crate) name: String,
    /// A directory or a file, as [`open_source`] gives it.
    pub(crate) source: OwnedFd,
    pub(crate) access: ShareAccess,
    pub(crate) below: SharedBelow,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SharesError {
    #[error("cannot start {program}, which serves shares: {source}; name the program with --virtiofsd")]
    Start { program: PathBuf, source: io::Error },
    #[error("virtiofsd ended at its start{complaint}")]
    Ended { complaint: String },
    #[error("no answer within {} s while waiting for virtiofsd to close its jail", START_DEADLINE.as_secs())]
    Deadline,
    #[error("{0:?} cannot be the name of a share")]
    Name(String),
    #[error("share {name}: cannot {step}: {source}")]
    Share { name: String, step: &'static str, source: io::Error },
    #[error("the tree of shares: cannot {step}: {source}")]
    Tree { step: &'static str, source: io::Error },
}

/// The server of a machine's shares and the tree that it serves.
#[derive(Debug)]
pub(crate) struct Shares {
    tree: PathBuf,
    server: Server,
}

/// What `path` is now, symbolic links resolved: whoever renames anything later no longer changes what is shared.
///
/// # Errors
/// There is nothing at `path`.
pub(crate) fn open_source(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The device by which the machine of that state directory has its shares.
pub(super) fn device(directory: &Path) -> ShareConfig {
    ShareConfig { tag: TAG.to_owned(), socket: directory.join(SOCKET) }
}

/// What a kernel is told that has that device.
pub(super) fn kernel_parameters() -> String {
    format!("fuse.max_known_inodes={}", server::max_known_files())
}

/// Ends a server that no machine has connected to; one that has a machine ends with it.
pub(super) fn end_without_machine(directory: &Path) {
    // It takes one connection in its life, and ends with it.
    let _nobody_there: io::Result<UnixStream> = UnixStream::connect(directory.join(SOCKET));
}

impl Shares {
    /// Starts the server of the machine of that state directory, as a member of these control groups.
    ///
    /// # Errors
    /// The program is missing, or the host refuses it what it needs.
    pub(super) async fn start(
        program: &Path,
        directory: &Path,
        groups: &[PathBuf],
    ) -> Result<Self, SharesError> {
        let failed = |step| move |source| SharesError::Tree { step, source };
        let tree = directory.join(TREE);
        DirBuilder::new().mode(0o755).create(&tree).map_err(failed("make it"))?;
        let server = Server::spawn(program, directory, &tree)
            .map_err(|source| SharesError::Start { program: program.into(), source })?;
        let mut shares = Self { tree, server };
        shares.wait_until_closed().await?;
        shares.server.join(groups).map_err(failed("put its server into the machine's control groups"))?;
        Ok(shares)
    }

    /// The shares of a machine that an earlier daemon started, if it has any and its server lives.
    pub(super) fn find(directory: &Path) -> Option<Self> {
        Some(Self { tree: directory.join(TREE), server: Server::find(directory)? })
    }

    /// Waits until the server is alone with the tree, and takes away from it that it could write there.
    async fn wait_until_closed(&mut self) -> Result<(), SharesError> {
        let begun = Instant::now();
        loop {
            let sealed = match self.namespace() {
                Ok(Some(namespace)) => namespace.run(|| mounts::seal(Path::new("/"))).await,
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            if let Some(()) = sealed.map_err(|source| SharesError::Tree { step: "seal it", source })? {
                return Ok(());
            }
            if let Some(complaint) = self.server.end() {
                return Err(SharesError::Ended { complaint });
            }
            if begun.elapsed() > START_DEADLINE {
                return Err(SharesError::Deadline);
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    /// The server's mount namespace; `None` before it has one.
    fn namespace(&self) -> io::Result<Option<ServerNamespace>> {
        ServerNamespace::find(&self.server, &self.tree)
    }

    /// The guest sees the share from now on.
    ///
    /// # Errors
    /// There is one of that name, or the host refuses the mount.
    pub(crate) async fn add(&self, share: NewShare) -> Result<(), SharesError> {
        let NewShare { name, source, access, below } = share;
        if !is_name(&name) {
            return Err(SharesError::Name(name));
        }
        let failed = |step| {
            let name = name.clone();
            move |source| SharesError::Share { name, step, source }
        };
        let place = self.tree.join(&name);
        make_place(&place, &source).map_err(failed("make a place for it"))?;
        let mounted = self.mount(&name, &place, source, (access, below)).await;
        if mounted.is_err() {
            // What is in its way will be in the next one's, too.
            let _in_the_way: io::Result<()> = remove_place(&place);
        }
        mounted.map_err(failed("mount it"))
    }

    async fn mount(
        &self,
        name: &str,
        place: &Path,
        source: OwnedFd,
        (access, below): (ShareAccess, SharedBelow),
    ) -> io::Result<()> {
        let namespace = self.namespace()?.ok_or_else(no_server)?;
        let place = place.canonicalize()?;
        let target = Path::new("/").join(name);
        let tree =
            namespace::on_own_thread(move || mounts::restricted_clone(source.as_fd(), &place, access, below));
        let tree = tree.await?;
        namespace.run(move || mounts::attach(tree.as_fd(), &target)).await?.ok_or_else(no_server)
    }

    /// The guest sees the share no longer; files that it has open stay so until it closes them.
    ///
    /// # Errors
    /// There is none of that name, or the host refuses.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), SharesError> {
        let failed = |step| move |source| SharesError::Share { name: name.to_owned(), step, source };
        if !is_name(name) {
            return Err(SharesError::Name(name.to_owned()));
        }
        let target = Path::new("/").join(name);
        let namespace = self.namespace().and_then(|found| found.ok_or_else(no_server));
        let namespace = namespace.map_err(failed("find its server"))?;
        let detached = namespace.run(move || mounts::detach(&target)).await;
        detached.and_then(|done| done.ok_or_else(no_server)).map_err(failed("unmount it"))?;
        remove_place(&self.tree.join(name)).map_err(failed("remove its place"))
    }
}

impl Shares {
    /// The same for all whose names begin so, whoever added them. Where there are none there is nothing to do.
    ///
    /// # Errors
    /// The host refuses; the others are removed.
    pub(crate) async fn remove_all(&self, prefix: &str) -> Result<(), SharesError> {
        let failed = |source| SharesError::Tree { step: "look into it", source };
        let mut removed = Ok(());
        for entry in std::fs::read_dir(&self.tree).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) {
                removed = self.remove(name).await.and(removed);
            }
        }
        removed
    }
}

fn no_server() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "virtiofsd is gone")
}

/// Directories are mounted on directories, files on files.
fn make_place(place: &Path, source: &OwnedFd) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode);
    if kind == FileType::Directory {
        DirBuilder::new().mode(0o755).create(place)
    } else {
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(place).map(drop)
    }
}

fn remove_place(place: &Path) -> io::Result<()> {
    match std::fs::remove_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(place),
        result => result,
    }
}

#[cfg(test)]
mod escapes;
#[cfg(test)]
mod tests;
