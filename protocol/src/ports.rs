//! The vsock ports that the two sides meet at, and the context ids of the machine's two ends.

/// The agent listens here for [`Request`](crate::agent::Request) frames.
pub const REQUEST_PORT: u32 = 1024;

/// The agent listens here for streams: one connection each.
pub const STREAM_PORT: u32 = 1025;

/// The host listens here; the agent connects once it serves, and sends [`Ready`](crate::agent::Ready).
pub const READY_PORT: u32 = 1023;

/// The host's context id (virtio 1.2, section 5.10.4).
pub const HOST_CID: u32 = 2;
