//! What the agent tells a stage, as one message in a memory file: the host's own request, and what only the agent knows.

use berth_protocol::agent::{Process, StartContainer};

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
}
