//! Unix sockets of the host's among the sources of mounts. A file of such a kind on a share leads nowhere: who listens is in
//! another kernel. So each is a mount of its own, and connections to it are carried ([`crate::engine::sockets`]).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use berth_protocol::agent;
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::point::MountPoint;
use crate::engine::error::EngineError;
use crate::engine::sockets;

/// One of a run's, by the place of its mount point among the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct BoundSocket {
    pub(in crate::engine) number: u32,
    /// Where it is, links resolved when the run began: nobody leads it elsewhere later, neither by a link that a container
    /// makes in a directory of the host's nor over the daemon's end.
    pub(in crate::engine) path: PathBuf,
    /// As the container sees it.
    mode: u32,
    user_id: u32,
    group_id: u32,
}

impl BoundSocket {
    /// What is open there as a path, if it is a socket.
    ///
    /// # Errors
    /// It is one that cannot be carried.
    pub(super) fn find(path: &str, opened: impl AsFd) -> Result<Option<Self>, EngineError> {
        let failed = |error: &dyn std::error::Error| {
            EngineError::internal(&format!("cannot look at the mount source {path}"), error)
        };
        let stat = rustix::fs::fstat(&opened).map_err(|error| failed(&error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            return Ok(None);
        }
        if let Some(kind) = sockets::other_kind(&opened).map_err(|error| failed(&error))? {
            return Err(EngineError::invalid(format!(
                "cannot mount {path}: it is a unix socket for {kind}, and only streams are carried into a machine"
            )));
        }
        let (path, number) = (resolved(&opened).map_err(|error| failed(&error))?, 0);
        Ok(Some(Self { number, path, mode: stat.st_mode, user_id: stat.st_uid, group_id: stat.st_gid }))
    }

    /// The same at a mount point of that number.
    pub(super) fn at(&self, number: usize) -> Self {
        let number = u32::try_from(number).expect("a container has as many mounts as a request has room for");
        Self { number, ..self.clone() }
    }

    pub(super) fn mount(&self, point: &MountPoint) -> agent::Mount {
        let socket = agent::BoundSocket {
            number: self.number,
            mode: self.mode & 0o7777,
            user_id: self.user_id,
            group_id: self.group_id,
        };
        agent::Mount {
            kind: "socket".into(),
            target: point.target.clone(),
            options: point.read_only.then(|| "ro".to_owned()).into_iter().collect(),
            socket: Some(socket),
            ..agent::Mount::default()
        }
    }
}

/// Where an open file is.
fn resolved(opened: impl AsFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd()))
}
