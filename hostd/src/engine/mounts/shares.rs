//! Mount points as a machine gets them: what is shared with it or carried into it, and what its agent mounts where.
//!
//! What is mounted twice is shared once: two shares of one directory are two file systems to the guest, each with a
//! cache of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use berth_protocol::agent;
use berth_protocol::shares::MAX_NAME_BYTES;

use super::images::ImageParts;
use super::point::{MountPoint, PointSource, VolumePoint};
use super::request::{HostSource, IfMissing, MountsBelow};
use super::sockets::BoundSocket;
use super::target::{clean, depth};
use super::volumes::MountedVolumes;
use crate::engine::error::EngineError;
use crate::engine::spec::ContainerSpec;
use crate::machine::{NewShare, ShareAccess, SharedBelow, open_source};

/// What the mount points of one run are mounted from.
#[derive(Default)]
pub(in crate::engine) struct Sources {
    pub(in crate::engine) shares: Vec<NewShare>,
    pub(in crate::engine) sockets: Vec<BoundSocket>,
}

/// One share of a machine, and the mount points that it is for, each with its place among all.
struct Share<'a> {
    source: SharedSource<'a>,
    points: Vec<(usize, &'a MountPoint)>,
}

#[derive(Clone, Copy)]
enum SharedSource<'a> {
    Host(&'a HostSource),
    Volume(&'a VolumePoint),
}

impl<'a> SharedSource<'a> {
    /// Images' files come on a disk.
    fn of(point: &'a MountPoint) -> Option<Self> {
        match &point.source {
            PointSource::Host(host) => Some(Self::Host(host)),
            PointSource::Volume(volume) => Some(Self::Volume(volume)),
            PointSource::Image(_) => None,
        }
    }
}

impl<'a> Share<'a> {
    /// All that a machine with these mount points needs.
    fn all_of(points: &'a [MountPoint]) -> Vec<Self> {
        let mut shares: Vec<Self> = Vec::new();
        for (number, point) in points.iter().enumerate() {
            let Some(source) = SharedSource::of(point) else { continue };
            match shares.iter_mut().find(|share| share.is_for(source, point.read_only)) {
                Some(share) => share.points.push((number, point)),
                None => shares.push(Self { source, points: vec![(number, point)] }),
            }
        }
        shares
    }

    fn is_for(&self, source: SharedSource<'_>, read_only: bool) -> bool {
        match (self.source, source) {
            (SharedSource::Host(one), SharedSource::Host(other)) => {
                one.path == other.path
                    && one.below.is_shared_as(other.below)
                    && (one.below != MountsBelow::ComeWritable || self.points[0].1.read_only == read_only)
            }
            (SharedSource::Volume(one), SharedSource::Volume(other)) => one.name == other.name,
            _ => false,
        }
    }

    /// Its number behind `prefix`, which makes it unique, and something for those who read lists of mounts.
    fn name(&self, prefix: &str, number: usize) -> String {
        let words = match self.source {
            SharedSource::Host(host) => host.path.rsplit('/').next().unwrap_or_default(),
            SharedSource::Volume(volume) => &volume.name,
        };
        let possible = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name = format!("{prefix}{number}-");
        name.chars().chain(words.chars().map(possible)).take(MAX_NAME_BYTES).collect()
    }

    fn access(&self) -> ShareAccess {
        if self.points.iter().all(|(_, point)| point.read_only) {
            ShareAccess::ReadOnly
        } else {
            ShareAccess::ReadWrite
        }
    }

    fn below(&self) -> SharedBelow {
        match self.source {
            SharedSource::Host(HostSource { below: MountsBelow::ComeWritable, .. }) => SharedBelow::Writable,
            SharedSource::Host(HostSource { below: MountsBelow::StayAway, .. }) => SharedBelow::Nothing,
            SharedSource::Host(_) | SharedSource::Volume(_) => SharedBelow::Alike,
        }
    }
}

impl MountsBelow {
    fn is_shared_as(self, other: Self) -> bool {
        let is_plain = |below| matches!(below, Self::Come | Self::ComeReadOnly);
        self == other || is_plain(self) && is_plain(other)
    }
}

/// Opens everything that a container with these mount points has of the host, shares under names that begin with `prefix`.
/// Blocks; what is to be made is made.
///
/// # Errors
/// A source that is not there, or cannot be shared.
pub(in crate::engine) fn open_sources(
    points: &[MountPoint],
    volumes: &MountedVolumes,
    prefix: &str,
) -> Result<Sources, EngineError> {
    let (mut opened, mut sockets) = (Vec::new(), Vec::new());
    for (number, share) in Share::all_of(points).iter().enumerate() {
        let mut forbidden = false;
        let source = match share.source {
            SharedSource::Host(host) => {
                let source = open_host_source(host)?;
                if let Some(socket) = BoundSocket::find(&host.path, &source)? {
                    sockets.extend(share.points.iter().map(|(number, _)| socket.at(*number)));
                    continue;
                }
                source
            }
            SharedSource::Volume(volume) => {
                let (source, is_read_only) = volume_source(volumes, &volume.name)?;
                forbidden = is_read_only;
                source
            }
        };
        let (name, below) = (share.name(prefix, number), share.below());
        let access = if forbidden { ShareAccess::ReadOnly } else { share.access() };
        opened.push(NewShare { name, source, access, below });
    }
    Ok(Sources { shares: opened, sockets })
}

/// The root of a volume in use, and whether nobody may write there.
fn volume_source(volumes: &MountedVolumes, name: &str) -> Result<(OwnedFd, bool), EngineError> {
    let volume =
        volumes.get(name).ok_or_else(|| EngineError::not_found(format!("get {name}: no such volume")))?;
    let source = volume.source();
    let source =
        source.map_err(|error| EngineError::internal(&format!("cannot open volume {name}"), &error))?;
    Ok((source, volume.is_read_only()))
}

fn open_host_source(host: &HostSource) -> Result<OwnedFd, EngineError> {
    let path = Path::new(&host.path);
    match open_source(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && host.if_missing == IfMissing::Make => {
            make_directory(path).and_then(|()| open_source(path)).map_err(|error| {
                let message = format!("error while creating mount source path '{}': {error}", host.path);
                EngineError::invalid(message)
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                host.path
            );
            Err(EngineError::invalid(message))
        }
        opened => opened.map_err(|error| {
            EngineError::internal(&format!("cannot open the mount source {}", host.path), &error)
        }),
    }
}

/// With what leads there, as everybody may enter it.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// What the machine calls that which a container mounts.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct MachineNames {
    /// How the names of its shares begin.
    pub(in crate::engine) share_prefix: String,
    pub(in crate::engine) images: ImageParts,
}

/// Everything that the agent is to mount, each after what it lies on. Which of the points are sockets was found when their
/// sources were opened.
pub(in crate::engine) fn agent_mounts(
    spec: &ContainerSpec,
    points: &[MountPoint],
    sockets: &[BoundSocket],
    names: &MachineNames,
) -> Vec<agent::Mount> {
    let shares = Share::all_of(points);
    let numbered = shares.iter().enumerate();
    let shared = numbered.flat_map(|(number, share)| {
        let name = share.name(&names.share_prefix, number);
        share.points.iter().map(move |(number, point)| {
            let socket = sockets.iter().find(|socket| usize::try_from(socket.number) == Ok(*number));
            socket.map_or_else(|| share_mount(point, &name), |socket| socket.mount(point))
        })
    });
    let images = points.iter().filter_map(|point| names.images.mount(point, point.image()?));
    let mut mounts: Vec<agent::Mount> = tmpfs_mounts(spec).chain(shared).chain(images).collect();
    mounts.sort_by_key(|mount| depth(&clean(&mount.target)));
    mounts
}

fn share_mount(point: &MountPoint, share: &str) -> agent::Mount {
    // The guest's word is for all that is mounted below as well.
    let is_plain =
        !matches!(&point.source, PointSource::Host(host) if host.below == MountsBelow::ComeWritable);
    let path_inside = point.volume().map(|volume| volume.subpath.clone()).unwrap_or_default();
    agent::Mount {
        kind: "share".into(),
        target: point.target.clone(),
        options: (point.read_only && is_plain).then(|| "ro".to_owned()).into_iter().collect(),
        share: share.to_owned(),
        path_inside,
        ..agent::Mount::default()
    }
}

fn tmpfs_mounts(spec: &ContainerSpec) -> impl Iterator<Item = agent::Mount> {
    let asked = spec.tmpfs.iter().map(|(target, options)| (target, options.clone()));
    let mounts = asked.chain(spec.tmpfs_mounts.iter().map(|mount| (&mount.target, mount.mount_options())));
    mounts.map(|(target, options)| {
        // Docker's defaults; what the client says comes later and wins.
        let defaults = ["noexec", "nosuid", "nodev"].into_iter();
        let wanted = options.split(',').filter(|option| !option.is_empty());
        let options = defaults.chain(wanted).map(String::from).collect();
        agent::Mount { kind: "tmpfs".into(), target: target.clone(), options, ..Default::default() }
    })
}
