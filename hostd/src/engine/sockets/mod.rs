//! Unix sockets of the host's in containers, as far as they are the host's: who connects in a machine is connected here, and
//! what both say is carried.
//!
//! A machine says which of the sockets that its container has, by number, and as whom. It never says a path, and what it says
//! of users is believed as far as that container's processes could be those users on this host.

mod dial;
mod serve;

pub(super) use dial::other_kind;
pub(super) use serve::{SocketServer, serve};
