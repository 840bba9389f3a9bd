//! A container's files as its processes see them, for those who are none of its processes: found, told about, written.
//!
//! Knows a root, not containers. What lies below it belongs to somebody hostile who may change it at any moment: every
//! path is resolved by the kernel inside the root and through no link of procfs, and nothing is opened that could block.
//! The tar format is [`crate::archive`]'s; the host speaks of files in messages.

pub(crate) mod view;

mod stat;

mod owner;

mod write;

pub(crate) use stat::stat;
pub(crate) use view::View;
pub(crate) use write::Writer;
