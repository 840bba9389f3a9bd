//! Names in a container: its name server, and the files in its /etc that tell of names.
//!
//! Who is called what is known to [`super::networks`]; the bytes of questions and answers are
//! [`crate::network::names`]'s. Here the two meet, for one container each.

pub(super) mod files;
pub(super) mod linked;
mod server;

pub(super) use files::NameFiles;
pub(super) use server::{NameServer, serve};
