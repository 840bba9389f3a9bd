//! What a container has mounted beside its image: as somebody asked for it ([`request`]), as it was decided when the
//! container was made ([`plan`], [`point`]), and as its machine gets it ([`shares`]).
//!
//! File systems in memory are here only for their places. Where volumes keep their files is not known here.

mod images;
mod plan;
mod point;
mod request;
mod settle;
mod shares;
mod sockets;
mod target;
mod volumes;

pub(super) use images::ImageParts;
pub use point::{MountPoint, PointSource, VolumePoint};
pub use request::{
    HostSource, IfMissing, ImageSource, MountRequest, MountRequests, MountSource, MountsBelow, Propagation,
    VolumeSource, VolumesFrom, Written,
};
pub(super) use shares::{MachineNames, Sources, agent_mounts, open_sources};
pub(super) use sockets::BoundSocket;
pub(super) use volumes::MountedVolumes;
