//! The checks a request passes before anything is done for it. What lies behind them trusts names and counts.

use berth_protocol::agent::{ErrorCode, Mount, MountContainer, Process, StartContainer, StartExec};
use berth_protocol::shares::is_name;

use super::parts;
use crate::failure::Failure;
use crate::network;

const MAX_ID_BYTES: usize = 128;
/// `HOST_NAME_MAX` of Linux.
pub(crate) const MAX_HOSTNAME_BYTES: usize = 64;
const MAX_MOUNTS: usize = 1024;
/// As many as there are kinds of them.
const MAX_JOINED_NAMESPACES: usize = 8;
/// More than any machine has.
const MAX_INTERFACES: usize = 64;

/// # Errors
/// INVALID_REQUEST naming the field, BAD_WORKING_DIRECTORY for one that is not absolute.
pub(super) fn check_start(mut request: StartContainer) -> Result<(StartContainer, Process), Failure> {
    check_id("container_id", &request.container_id)?;
    check_disk("image_disk", &request.image_disk)?;
    check_disk("scratch_disk", &request.scratch_disk)?;
    parts::check("lower_part", request.lower_part.as_ref())?;
    parts::check("scratch_part", request.scratch_part.as_ref())?;
    check_length("joined_namespaces", request.joined_namespaces.len(), MAX_JOINED_NAMESPACES)?;
    for joined in &request.joined_namespaces {
        check_id("joined_namespaces.container_id", &joined.container_id)?;
    }
    check_length("hostname", request.hostname.len(), MAX_HOSTNAME_BYTES)?;
    check_length("domainname", request.domainname.len(), MAX_HOSTNAME_BYTES)?;
    for path in request.masked_paths.iter().chain(&request.readonly_paths) {
        check_absolute("masked_paths and readonly_paths", path)?;
    }
    check_mounts(&request.mounts)?;
    check_length("devices", request.devices.len(), MAX_MOUNTS)?;
    for device in &request.devices {
        check_absolute("devices.path", &device.path)?;
        check_absolute("devices.target", &device.target)?;
    }
    check_length("interfaces", request.interfaces.len(), MAX_INTERFACES)?;
    for interface in &request.interfaces {
        network::check(interface).map_err(|error| Failure::invalid(error.to_string()))?;
    }
    let process = check_process(request.process.take())?;
    request.process = Some(process.clone());
    Ok((request, process))
}

fn check_mounts(mounts: &[Mount]) -> Result<(), Failure> {
    check_length("mounts", mounts.len(), MAX_MOUNTS)?;
    for mount in mounts {
        check_absolute("mounts.target", &mount.target)?;
        check_source(mount)?;
    }
    Ok(())
}

/// What a mount is of: each kind has something else.
fn check_source(mount: &Mount) -> Result<(), Failure> {
    let Mount { kind, share, path_inside, disk_part, .. } = mount;
    if (kind == "socket") != mount.socket.is_some() {
        return Err(Failure::invalid(format!("mounts.socket: {} is no socket", mount.target)));
    }
    let is_right = match kind.as_str() {
        "share" => is_name(share) && disk_part.is_none(),
        "disk" => share.is_empty() && disk_part.is_some(),
        _ => share.is_empty() && disk_part.is_none() && path_inside.is_empty(),
    };
    if !is_right {
        let message = match kind.as_str() {
            "share" => format!("mounts.share: {share:?} names no share"),
            _ => format!("mounts: a {kind:?} cannot be of {share:?}, {path_inside:?}, {disk_part:?}"),
        };
        return Err(Failure::invalid(message));
    }
    parts::check("mounts.disk_part", disk_part.as_ref())
}

/// # Errors
/// INVALID_REQUEST naming the field.
pub(super) fn check_mount(request: &MountContainer) -> Result<(), Failure> {
    check_id("container_id", &request.container_id)?;
    check_disk("image_disk", &request.image_disk)?;
    check_disk("scratch_disk", &request.scratch_disk)?;
    parts::check("lower_part", request.lower_part.as_ref())?;
    check_mounts(&request.mounts)
}

/// # Errors
/// As [`check_start`].
pub(super) fn check_exec(request: StartExec) -> Result<(String, Process), Failure> {
    check_id("container_id", &request.container_id)?;
    Ok((request.container_id, check_process(request.process)?))
}

fn check_process(process: Option<Process>) -> Result<Process, Failure> {
    let mut process = process.ok_or_else(|| Failure::invalid("process is missing"))?;
    check_id("process_id", &process.process_id)?;
    if process.args.first().is_none_or(String::is_empty) {
        return Err(Failure::invalid("no command specified"));
    }
    if process.working_directory.is_empty() {
        process.working_directory = "/".into();
    }
    if !process.working_directory.starts_with('/') {
        let message = format!("Cwd must be an absolute path, not {:?}", process.working_directory);
        return Err(Failure::new(ErrorCode::BadWorkingDirectory, message));
    }
    Ok(process)
}

/// Ids become names of directories.
fn check_id(field: &str, id: &str) -> Result<(), Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts_well = id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if starts_well && id.len() <= MAX_ID_BYTES && id.bytes().all(plain) {
        return Ok(());
    }
    Err(Failure::invalid(format!("{field} {id:?} is no name")))
}

/// `vda`, `vdb` …
pub(crate) fn check_disk(field: &str, name: &str) -> Result<(), Failure> {
    match name.strip_prefix("vd") {
        Some(letters) if matches!(letters.as_bytes(), [b'a'..=b'z']) => Ok(()),
        _ => Err(Failure::invalid(format!("{field} {name:?} is no virtio disk"))),
    }
}

fn check_length(field: &str, length: usize, limit: usize) -> Result<(), Failure> {
    if length <= limit { Ok(()) } else { Err(Failure::invalid(format!("{field} is longer than {limit}"))) }
}

fn check_absolute(field: &str, path: &str) -> Result<(), Failure> {
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(Failure::invalid(format!("{field}: {path:?} is not absolute")))
    }
}

#[cfg(test)]
mod tests {
    use berth_protocol::agent::DiskPart;

    use super::*;

    fn process() -> Process {
        Process { process_id: "abc".into(), args: vec!["sh".into()], ..Default::default() }
    }

    fn start() -> StartContainer {
        StartContainer {
            container_id: "abc".into(),
            image_disk: "vda".into(),
            scratch_disk: "vdb".into(),
            process: Some(process()),
            ..Default::default()
        }
    }

    fn mount() -> MountContainer {
        MountContainer {
            container_id: "abc".into(),
            image_disk: "vda".into(),
            scratch_disk: "vdb".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_mount_needs_two_disks() {
        assert!(check_mount(&mount()).is_ok());
        assert!(check_mount(&MountContainer { image_disk: "sda".into(), ..mount() }).is_err());
        assert!(check_mount(&MountContainer { scratch_disk: String::new(), ..mount() }).is_err());
    }

    #[test]
    fn a_plain_request_passes_and_starts_in_the_root() {
        let (request, process) = check_start(start()).unwrap();
        assert_eq!(process.working_directory, "/");
        assert_eq!(request.process, Some(process));
    }

    #[test]
    fn names_cannot_leave_their_directory() {
        for id in ["", ".", "..", "a/b", "../x", "-x", "a b", "ä", "a\0", &"x".repeat(129)] {
            assert!(check_start(StartContainer { container_id: id.into(), ..start() }).is_err(), "{id:?}");
            assert!(check_mount(&MountContainer { container_id: id.into(), ..mount() }).is_err(), "{id:?}");
        }
        for disk in ["", "vd", "sda", "vda1", "vdA", "../vda", "vd/"] {
            assert!(check_start(StartContainer { image_disk: disk.into(), ..start() }).is_err(), "{disk:?}");
            assert!(
                check_start(StartContainer { scratch_disk: disk.into(), ..start() }).is_err(),
                "{disk:?}"
            );
        }
    }

    #[test]
    fn a_process_needs_a_command_and_an_absolute_directory() {
        let exec = |process| check_exec(StartExec { container_id: "abc".into(), process });
        assert!(exec(None).is_err());
        assert!(exec(Some(Process { args: vec![], ..process() })).is_err());
        assert!(exec(Some(Process { args: vec![String::new()], ..process() })).is_err());
        let failure = exec(Some(Process { working_directory: "tmp".into(), ..process() })).unwrap_err();
        assert_eq!(failure.code, ErrorCode::BadWorkingDirectory);
        assert!(exec(Some(process())).is_ok());
    }

    #[test]
    fn a_mount_is_of_what_its_kind_says() {
        let part = |number| Some(DiskPart { number, start_bytes: 4096, length_bytes: 4096 });
        let mount = |kind: &str, share: &str, path_inside: &str, disk_part| {
            let (kind, share, path_inside) = (kind.into(), share.into(), path_inside.into());
            Mount { kind, target: "/x".into(), share, path_inside, disk_part, ..Mount::default() }
        };
        let check = |mount| check_start(StartContainer { mounts: vec![mount], ..start() });
        for right in
            [mount("tmpfs", "", "", None), mount("share", "a", "b", None), mount("disk", "", "b", part(2))]
        {
            assert!(check(right.clone()).is_ok(), "{right:?}");
        }
        for wrong in [
            mount("tmpfs", "a", "", None),
            mount("tmpfs", "", "b", None),
            mount("tmpfs", "", "", part(2)),
            mount("share", "", "", None),
            mount("share", "../a", "", None),
            mount("share", "a", "", part(2)),
            mount("disk", "", "", None),
            mount("disk", "a", "", part(2)),
            mount("disk", "", "", part(0)),
        ] {
            assert!(check(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn paths_are_absolute() {
        assert!(check_start(StartContainer { masked_paths: vec!["proc".into()], ..start() }).is_err());
        assert!(check_start(StartContainer { readonly_paths: vec!["".into()], ..start() }).is_err());
    }
}
