//! What the agent tells a stage, as one message in a memory file: the host's own request, and what only the agent knows.

use berth_protocol::agent::{DeviceKind, Process, StartContainer};

/// Exactly one of `container` and `exec` is set.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StageSpec {
    /// Become the first process of a new container.
    #[prost(message, optional, tag = "1")]
    pub(crate) container: Option<StartContainer>,
    /// Become a further process of the container that the handed pidfd belongs to.
    #[prost(message, optional, tag = "2")]
    pub(crate) exec: Option<Process>,
    /// The new container's directory of state, as the agent sees it.
    #[prost(string, tag = "3")]
    pub(crate) directory: String,
    /// The new container's nodes beyond the standard ones.
    #[prost(message, repeated, tag = "4")]
    pub(crate) devices: Vec<DeviceNode>,
    /// What the new container has as /dev/shm together with others, as the agent sees it; empty for one of its own.
    #[prost(string, tag = "6")]
    pub(crate) shm: String,
    /// The process to be joined has a user namespace of its own.
    #[prost(bool, tag = "5")]
    pub(crate) joins_user_namespace: bool,
}

/// A device's node to be made.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeviceNode {
    /// In the container.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    #[prost(enumeration = "DeviceKind", tag = "2")]
    pub(crate) kind: i32,
    #[prost(uint32, tag = "3")]
    pub(crate) major: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) minor: u32,
    /// Permission bits and owner, as the machine's own node has them.
    #[prost(uint32, tag = "5")]
    pub(crate) mode: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) uid: u32,
    #[prost(uint32, tag = "7")]
    pub(crate) gid: u32,
    /// In the machine.
    #[prost(string, tag = "8")]
    pub(crate) source: String,
}
