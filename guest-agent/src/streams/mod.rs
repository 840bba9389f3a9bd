//! The standard streams of processes: their descriptors, what is kept of their output, and the connections of the host.

mod buffer;

mod input;
mod output;
mod stdio;

pub(crate) use input::Input;
pub(crate) use output::Output;
pub(crate) use stdio::{Endpoint, ProcessEnds, Stdio};
