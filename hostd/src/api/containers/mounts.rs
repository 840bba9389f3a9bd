//! What a container has mounted, as clients are shown it: as it is, and as it was asked for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::engine::{
    ContainerSpec, ContainerView, HostSource, IfMissing, MountPoint, MountRequest, MountSource, MountsBelow,
    PointSource, Propagation, TmpfsMount, VolumeSource, Written,
};

/// Everything that is mounted, by its place; what `HostConfig.Tmpfs` asks for is none of it to Docker.
pub(super) fn points(view: &ContainerView) -> Vec<Value> {
    let in_memory = view.spec.tmpfs_mounts.iter().map(|mount| (mount.target.as_str(), in_memory(mount)));
    let others = view.mounts.iter().map(|point| (point.target.as_str(), point_of(point, view)));
    // Of two in one place, that of the one who asked for it in so many words.
    let by_place: BTreeMap<&str, Value> = others.chain(in_memory).collect();
    by_place.into_values().collect()
}

/// Whether a volume of that name is mounted, or anything at that place.
pub(super) fn has(view: &ContainerView, wanted: &str) -> bool {
    let place = wanted.trim_end_matches('/');
    let is_it = |point: &MountPoint| {
        point.target == place || point.volume().is_some_and(|volume| volume.name == wanted)
    };
    view.mounts.iter().any(is_it) || view.spec.tmpfs_mounts.iter().any(|mount| mount.target == place)
}

fn in_memory(mount: &TmpfsMount) -> Value {
    json!({
        "Type": "tmpfs", "Source": "", "Destination": mount.target, "Mode": "",
        "RW": !mount.read_only, "Propagation": "",
    })
}

fn point_of(point: &MountPoint, view: &ContainerView) -> Value {
    let MountPoint { target, read_only, mode, source } = point;
    match source {
        PointSource::Host(host) => json!({
            "Type": "bind", "Source": host.path, "Destination": target, "Mode": mode, "RW": !read_only,
            "Propagation": host.propagation.name(),
        }),
        PointSource::Volume(volume) => json!({
            "Type": "volume", "Name": volume.name, "Source": view.volume_roots.get(&volume.name), "Destination": target, "Driver": volume.driver,
            "Mode": mode, "RW": !read_only, "Propagation": "",
        }),
        // It has no place on the host that could be its source.
        PointSource::Image(image) => json!({
            "Type": "image", "Name": image.source.reference, "Source": image.id.to_string(), "Destination": target,
            "Mode": mode, "RW": false, "Propagation": Propagation::default().name(),
        }),
    }
}

/// `HostConfig.Binds`, as they came.
pub(super) fn binds(spec: &ContainerSpec) -> Option<Vec<String>> {
    let line = |request: &MountRequest| match &request.written {
        Written::Line { text, .. } => Some(text.clone()),
        Written::Fields { .. } => None,
    };
    let binds: Vec<String> = spec.mounts.requests.iter().filter_map(line).collect();
    (!binds.is_empty()).then_some(binds)
}

/// `HostConfig.VolumesFrom`, as they came.
pub(super) fn volumes_from(spec: &ContainerSpec) -> Option<Vec<String>> {
    let texts: Vec<String> = spec.mounts.volumes_from.iter().map(|from| from.text.clone()).collect();
    (!texts.is_empty()).then_some(texts)
}

/// `HostConfig.Mounts`, without what asks for nothing.
pub(super) fn requests(spec: &ContainerSpec) -> Vec<Value> {
    let fields = |request: &MountRequest| match &request.written {
        Written::Fields { consistency } => Some(request_of(request, consistency)),
        Written::Line { .. } => None,
    };
    let others = spec.mounts.requests.iter().filter_map(fields);
    spec.tmpfs_mounts.iter().map(tmpfs_request).chain(others).collect()
}

fn request_of(request: &MountRequest, consistency: &str) -> Value {
    let (kind, source) = match &request.source {
        MountSource::Host(host) => ("bind", host.path.as_str()),
        MountSource::Volume(volume) => ("volume", volume.name.as_deref().unwrap_or_default()),
        MountSource::Image(image) => ("image", image.reference.as_str()),
    };
    let shown = json!({
        "Type": kind, "Source": source, "Target": request.target, "ReadOnly": request.read_only,
        "Consistency": consistency, "BindOptions": null, "VolumeOptions": null,
    });
    let mut shown = filled(shown);
    match &request.source {
        MountSource::Host(host) => set_options(&mut shown, "BindOptions", bind_options(host)),
        MountSource::Volume(volume) => set_options(&mut shown, "VolumeOptions", volume_options(volume)),
        MountSource::Image(image) => {
            set_options(&mut shown, "ImageOptions", json!({ "Subpath": image.subpath }));
        }
    }
    Value::Object(shown)
}

fn bind_options(host: &HostSource) -> Value {
    let propagation = if host.propagation == Propagation::default() { "" } else { host.propagation.name() };
    json!({
        "Propagation": propagation,
        "NonRecursive": host.below == MountsBelow::StayAway,
        "CreateMountpoint": host.if_missing == IfMissing::Make,
        "ReadOnlyNonRecursive": host.below == MountsBelow::ComeWritable,
        "ReadOnlyForceRecursive": host.below == MountsBelow::ComeReadOnly,
    })
}

fn volume_options(volume: &VolumeSource) -> Value {
    let driver = json!({ "Name": volume.driver, "Options": volume.driver_options });
    let driver = Value::Object(filled(driver));
    json!({
        "NoCopy": volume.no_copy, "Labels": volume.labels, "DriverConfig": driver, "Subpath": volume.subpath,
    })
}

fn tmpfs_request(mount: &TmpfsMount) -> Value {
    let shown = json!({
        "Type": "tmpfs", "Target": mount.target, "ReadOnly": mount.read_only, "Consistency": mount.consistency,
    });
    let mut shown = filled(shown);
    let options = json!({ "SizeBytes": mount.size_bytes, "Mode": mount.mode, "Options": mount.options });
    set_options(&mut shown, "TmpfsOptions", options);
    Value::Object(shown)
}

fn set_options(shown: &mut Map<String, Value>, name: &str, options: Value) {
    let options = filled(options);
    if !options.is_empty() {
        shown.insert(name.to_owned(), Value::Object(options));
    }
}

/// What of an object's members asks for anything.
fn filled(object: Value) -> Map<String, Value> {
    let Value::Object(members) = object else { return Map::new() };
    let is_filled = |value: &Value| !super::create::is_empty(value);
    members.into_iter().filter(|(_, value)| is_filled(value)).collect()
}
