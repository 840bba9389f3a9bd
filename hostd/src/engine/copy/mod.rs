//! Copies of files between a container and a client, whether the container runs or not.
//!
//! Paths are a container's processes' own: links and mounts are resolved by the agent, behind the container's root.

mod path;

mod stat;

mod reach;
mod read;

mod members;

mod write;

pub use path::ContainerPath;
pub use stat::PathStat;
pub use write::CopyInto;
