//! A mount as an object with a field for everything, the newer way to ask for one.

use std::path::Path;

use super::super::body::{BindOptions, Mount, VolumeOptions};
use super::places::{check_target, check_volume_name, is_local, not_absolute, wrong};
use super::propagation;
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{
    HostSource, IfMissing, ImageSource, MountRequest, MountSource, MountsBelow, VolumeSource, Written,
};

/// What may be said of when the file system's two sides agree; a share is always the same for both.
const CONSISTENCIES: [&str; 5] = ["", "default", "consistent", "cached", "delegated"];
const PROPAGATIONS: [&str; 7] = ["", "private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// What Docker says of a mount by itself, before it looks at anything else of a request.
///
/// # Errors
/// Its texts; 501 for a kind that Berth does not mount.
pub(super) fn check(mount: &Mount) -> ApiResult<()> {
    let kind = mount.kind.as_str();
    if !matches!(kind, "bind" | "volume" | "tmpfs" | "image" | "cluster" | "npipe") {
        return Err(wrong(kind, "mount type unknown"));
    }
    check_target(kind, &mount.target)?;
    let foreign = [
        ("BindOptions", mount.bind_options.is_some(), "bind"),
        ("VolumeOptions", mount.volume_options.is_some(), "volume"),
        ("ImageOptions", mount.image_options.is_some(), "image"),
        ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
    ];
    if let Some((field, ..)) = foreign.iter().find(|(_, is_set, owner)| *is_set && *owner != kind) {
        return Err(wrong(kind, &format!("field {field} must not be specified")));
    }
    match kind {
        "tmpfs" if mount.source.is_empty() => Ok(()),
        "tmpfs" => Err(wrong(kind, "field Source must not be specified")),
        "bind" => check_bind(mount).map_err(|problem| wrong(kind, &problem)),
        "volume" => check_volume(mount),
        "image" => check_image(mount).map_err(|problem| wrong(kind, problem)),
        "npipe" => {
            Err(ApiError::invalid("invalid mount config for type \"npipe\": named pipes are Windows'"))
        }
        _ => Err(ApiError::invalid(
            "invalid mount config for type \"cluster\": this host is no part of a swarm",
        )),
    }
}

fn no_mount(what: &str) -> ApiError {
    ApiError::not_supported(format!("berth cannot honour {what}"))
}

fn check_bind(mount: &Mount) -> Result<(), String> {
    let source = &mount.source;
    if source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    if !source.starts_with('/') {
        return Err(not_absolute(source));
    }
    if let Some(options) = &mount.bind_options {
        check_bind_options(mount, options)?;
    }
    if is_made(mount) || Path::new(source).exists() {
        return Ok(());
    }
    Err(format!("bind source path does not exist: {source}"))
}

fn check_bind_options(mount: &Mount, options: &BindOptions) -> Result<(), String> {
    let conflict = |what: &str| Err(format!("mount options conflict: {what}"));
    if !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    if options.read_only_non_recursive && !mount.read_only {
        return conflict("!ReadOnly && BindOptions.ReadOnlyNonRecursive");
    }
    if options.read_only_force_recursive {
        if !mount.read_only {
            return conflict("!ReadOnly && BindOptions.ReadOnlyForceRecursive");
        }
        if options.non_recursive {
            return conflict("ReadOnlyForceRecursive && BindOptions.NonRecursive");
        }
        if options.read_only_non_recursive {
            return conflict("ReadOnlyForceRecursive && BindOptions.ReadOnlyNonRecursive");
        }
    }
    Ok(())
}

fn is_made(mount: &Mount) -> bool {
    mount.bind_options.as_ref().is_some_and(|options| options.create_mountpoint)
}

fn check_image(mount: &Mount) -> Result<(), &'static str> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty");
    }
    let subpath = mount.image_options.as_ref().map_or("", |options| &options.subpath);
    // Docker's word for both: the volume is the image.
    if !subpath.is_empty() && !is_local(subpath) {
        return Err("subpath must be a relative path within the volume");
    }
    Ok(())
}

fn check_volume(mount: &Mount) -> ApiResult<()> {
    let is_anonymous = mount.source.is_empty();
    let subpath = mount.volume_options.as_ref().map_or("", |options| &options.subpath);
    if !subpath.is_empty() {
        if is_anonymous {
            return Err(wrong("volume", "must not set Subpath when using anonymous volumes"));
        }
        if !is_local(subpath) {
            return Err(wrong("volume", "subpath must be a relative path within the volume"));
        }
    }
    if is_anonymous && mount.read_only {
        return Err(wrong("volume", "must not set ReadOnly mode when using anonymous volumes"));
    }
    check_volume_name(&mount.source)
}

/// A mount that [`check`] found nothing wrong with.
///
/// # Errors
/// 501 for a way to spread mounts that no machine has, and for a consistency that is none.
pub(super) fn request(mount: &Mount, warnings: &mut Vec<String>) -> ApiResult<MountRequest> {
    if !CONSISTENCIES.contains(&mount.consistency.as_str()) {
        return Err(no_mount(&format!("the consistency \"{}\" of a mount", mount.consistency)));
    }
    let source = match mount.kind.as_str() {
        "bind" => {
            let default = BindOptions::default();
            let options = mount.bind_options.as_ref().unwrap_or(&default);
            MountSource::Host(HostSource {
                path: mount.source.clone(),
                if_missing: if options.create_mountpoint { IfMissing::Make } else { IfMissing::Refuse },
                propagation: propagation(&options.propagation, &mount.target, warnings)?,
                below: below(options),
            })
        }
        "image" => MountSource::Image(ImageSource {
            reference: mount.source.clone(),
            subpath: mount.image_options.as_ref().map(|options| options.subpath.clone()).unwrap_or_default(),
        }),
        _ => MountSource::Volume(volume(&mount.source, mount.volume_options.as_ref())),
    };
    let written = Written::Fields { consistency: mount.consistency.clone() };
    Ok(MountRequest { target: mount.target.clone(), read_only: mount.read_only, source, written })
}

fn below(options: &BindOptions) -> MountsBelow {
    if options.non_recursive {
        MountsBelow::StayAway
    } else if options.read_only_non_recursive {
        MountsBelow::ComeWritable
    } else if options.read_only_force_recursive {
        MountsBelow::ComeReadOnly
    } else {
        MountsBelow::Come
    }
}

fn volume(name: &str, options: Option<&VolumeOptions>) -> VolumeSource {
    let default = VolumeOptions::default();
    let options = options.unwrap_or(&default);
    let driver = options.driver_config.as_ref();
    VolumeSource {
        name: (!name.is_empty()).then(|| name.to_owned()),
        driver: driver.map(|driver| driver.name.clone()).unwrap_or_default(),
        driver_options: driver.map(|driver| driver.options.clone()).unwrap_or_default(),
        labels: options.labels.clone(),
        no_copy: options.no_copy,
        subpath: options.subpath.clone(),
    }
}
