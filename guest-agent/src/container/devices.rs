//! Devices of the machine that a container asked for: found by their paths, told to its stage by their numbers.
//!
//! Looks only at the machine's own /dev; the nodes in the container are made by [`crate::stage`].

use std::collections::BTreeMap;
use std::path::Path;

use berth_protocol::agent::{Device, DeviceKind, DeviceRule, ErrorCode, StartContainer};
use rustix::fs::{FileType, Stat, major, minor};

use crate::failure::{During, Failure};
use crate::stage::spec::DeviceNode;

const DEV: &str = "/dev";
/// What of /dev is not the machine's devices but every container's own business, as Docker leaves it out.
const NOT_SHARED: [&str; 6] = ["/dev/console", "/dev/fd", "/dev/mqueue", "/dev/ptmx", "/dev/pts", "/dev/shm"];

const MAX_NODES: usize = 1024;
/// How deep a directory of devices is followed.
const MAX_DEPTH: u32 = 8;

/// The nodes to make and the rules to go with them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) nodes: Vec<DeviceNode>,
    /// None where everything is permitted.
    pub(super) rules: Option<Vec<DeviceRule>>,
}

/// Finds what the request names.
///
/// # Errors
/// INVALID_REQUEST for a path that is no device.
pub(super) fn find(request: &StartContainer) -> Result<Devices, Failure> {
    let mut found = BTreeMap::new();
    let mut rules = request.device_rules.clone();
    for device in &request.devices {
        let mut nodes = BTreeMap::new();
        collect(Path::new(&device.path), Path::new(&device.target), MAX_DEPTH, &mut nodes)
            .and_then(|()| at_least_one(&nodes, device))?;
        rules.extend(nodes.values().map(|node| rule(node, &device.access)));
        found.append(&mut nodes);
    }
    if request.privileged {
        let mut nodes = BTreeMap::new();
        collect(Path::new(DEV), Path::new(DEV), MAX_DEPTH, &mut nodes)?;
        nodes.append(&mut found);
        found = nodes;
    }
    if found.len() > MAX_NODES {
        return Err(Failure::invalid(format!("more than {MAX_NODES} devices")));
    }
    Ok(Devices { nodes: found.into_values().collect(), rules: (!request.privileged).then_some(rules) })
}

/// One device, or all below a directory. What else lies in a directory is passed over.
fn collect(
    path: &Path,
    target: &Path,
    depth: u32,
    nodes: &mut BTreeMap<String, DeviceNode>,
) -> Result<(), Failure> {
    let step =
        || format!("error gathering device information while adding custom device \"{}\"", path.display());
    let stat = rustix::fs::stat(path).during(ErrorCode::InvalidRequest, step)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        for entry in std::fs::read_dir(path).during(ErrorCode::InvalidRequest, step)?.flatten() {
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let passed_over = NOT_SHARED.iter().any(|own| entry.path() == Path::new(own));
            if depth > 0 && !is_link && !passed_over {
                collect(&entry.path(), &target.join(entry.file_name()), depth - 1, nodes)?;
            }
        }
    } else if let Some(node) = node(path, target, &stat) {
        nodes.insert(node.path.clone(), node);
    }
    Ok(())
}

fn at_least_one(nodes: &BTreeMap<String, DeviceNode>, device: &Device) -> Result<(), Failure> {
    if nodes.is_empty() {
        let path = &device.path;
        let message = format!(
            "error gathering device information while adding custom device {path:?}: not a device node"
        );
        return Err(Failure::invalid(message));
    }
    Ok(())
}

/// None for what is no device.
fn node(source: &Path, target: &Path, stat: &Stat) -> Option<DeviceNode> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => DeviceKind::BlockDevice,
        FileType::CharacterDevice => DeviceKind::CharacterDevice,
        _ => return None,
    };
    Some(DeviceNode {
        path: target.to_str()?.to_owned(),
        kind: kind.into(),
        major: major(stat.st_rdev),
        minor: minor(stat.st_rdev),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        source: source.to_str()?.to_owned(),
    })
}

fn rule(node: &DeviceNode, access: &str) -> DeviceRule {
    DeviceRule {
        kind: node.kind,
        major: Some(node.major),
        minor: Some(node.minor),
        access: access.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(path: &str, target: &str) -> StartContainer {
        let device = Device { path: path.into(), target: target.into(), access: "rw".into() };
        StartContainer { devices: vec![device], ..StartContainer::default() }
    }

    #[test]
    fn a_device_is_found_by_its_path_and_known_by_its_numbers() {
        let found = find(&asking("/dev/null", "/dev/nothing")).unwrap();
        let [node] = &found.nodes[..] else { panic!("{found:?}") };
        assert_eq!((node.path.as_str(), node.major, node.minor), ("/dev/nothing", 1, 3));
        let rules = found.rules.unwrap();
        assert_eq!((rules[0].major, rules[0].minor, rules[0].access.as_str()), (Some(1), Some(3), "rw"));
    }

    #[test]
    fn what_is_no_device_is_refused_by_name() {
        for path in ["/nowhere/at/all", "/proc/version", "/proc/self/net"] {
            let failure = find(&asking(path, "/dev/x")).unwrap_err();
            assert!(failure.message.contains(path), "{failure}");
            assert_eq!(failure.code, ErrorCode::InvalidRequest);
        }
    }

    #[test]
    fn the_privileged_have_every_device_and_no_rules() {
        let found = find(&StartContainer { privileged: true, ..StartContainer::default() }).unwrap();
        assert!(found.rules.is_none());
        assert!(found.nodes.iter().any(|node| node.path == "/dev/null"));
        assert!(
            found.nodes.iter().all(|node| !node.path.starts_with("/dev/pts/") && node.path != "/dev/ptmx")
        );
    }
}
