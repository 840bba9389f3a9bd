//! The few devices of a PC that are not virtio: what early boot and a dying kernel talk to.

pub(crate) mod reset;
pub(crate) mod serial;
