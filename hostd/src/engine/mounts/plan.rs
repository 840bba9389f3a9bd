//! From what is asked for to what a container has mounted: a pure function.

use std::collections::BTreeMap;

use super::images::{MAX_IMAGES, distinct};
use super::point::{ImagePoint, MountPoint, PointSource, VolumePoint};
use super::request::{MountRequest, MountSource, VolumeSource, VolumesFrom, Written};
use super::target::{clean, depth};
use crate::engine::error::EngineError;
use crate::engine::spec::ContainerSpec;
use crate::image::ImageId;

/// The driver of volumes that do not say another.
const LOCAL: &str = "local";
/// Docker's mode of a volume that was asked for without one: shared between containers, in SELinux's terms.
const VOLUME_MODE: &str = "z";

/// What references of images stand for.
pub(in crate::engine) type FoundImages = BTreeMap<String, ImageId>;

/// What one of `--volumes-from` comes to.
pub(in crate::engine) struct Inherited {
    pub(in crate::engine) asked: VolumesFrom,
    pub(in crate::engine) points: Vec<MountPoint>,
}

/// What a container with this description (the image's part included) has mounted, each after what it lies on.
///
/// Later rules win: what others have, what was asked for in so many words; a volume of the image's only where nothing
/// else is. `new_name` invents names of volumes.
///
/// # Errors
/// Docker's text for two requests with one target, and for an image that is not among those that were found.
pub(in crate::engine) fn plan(
    spec: &ContainerSpec,
    inherited: Vec<Inherited>,
    images: &FoundImages,
    mut new_name: impl FnMut() -> String,
) -> Result<Vec<MountPoint>, EngineError> {
    let mut points = BTreeMap::new();
    for Inherited { asked, points: others } in inherited {
        for point in others {
            points.insert(point.target.clone(), point.inherited(&asked));
        }
    }
    let in_memory = spec.tmpfs.keys().chain(spec.tmpfs_mounts.iter().map(|mount| &mount.target));
    let mut taken: Vec<String> = Vec::new();
    let requests = spec.mounts.requests.iter();
    let asked_for = in_memory.map(|target| (target, None));
    for (target, request) in asked_for.chain(requests.map(|request| (&request.target, Some(request)))) {
        let target = clean(target);
        if taken.contains(&target) {
            return Err(EngineError::invalid(format!("Duplicate mount point: {target}")));
        }
        match request.map(|request| point(spec, target.clone(), request, images, &mut new_name)) {
            Some(point) => drop(points.insert(target.clone(), point?)),
            None => drop(points.remove(&target)),
        }
        taken.push(target);
    }
    for target in spec.mounts.own_volumes.iter().map(|target| clean(target)) {
        if target == "/" {
            return Err(EngineError::invalid(
                "invalid mount config for type \"volume\": invalid specification: destination can't be '/'",
            ));
        }
        if !taken.contains(&target) && !points.contains_key(&target) {
            let own = VolumeSource { driver: spec.mounts.volume_driver.clone(), ..VolumeSource::default() };
            let source = PointSource::Volume(volume(&own, &mut new_name));
            let point = MountPoint { target: target.clone(), read_only: false, mode: String::new(), source };
            points.insert(target, point);
        }
    }
    let mut points: Vec<MountPoint> = points.into_values().collect();
    if distinct(&points).len() > MAX_IMAGES {
        let message =
            format!("invalid mount config for type \"image\": more than {MAX_IMAGES} different images");
        return Err(EngineError::invalid(message));
    }
    points.sort_by_key(|point| depth(&point.target));
    Ok(points)
}

fn point(
    spec: &ContainerSpec,
    target: String,
    request: &MountRequest,
    images: &FoundImages,
    new_name: impl FnMut() -> String,
) -> Result<MountPoint, EngineError> {
    let mode = match &request.written {
        Written::Line { mode, .. } => mode.clone(),
        Written::Fields { .. } => String::new(),
    };
    let read_only = request.read_only;
    Ok(match &request.source {
        MountSource::Host(host) => {
            let mut host = host.clone();
            host.path = clean(&host.path);
            MountPoint { target, read_only, mode, source: PointSource::Host(host) }
        }
        MountSource::Image(source) => {
            let id = *images.get(&source.reference).ok_or_else(|| no_such_image(&source.reference))?;
            let source = PointSource::Image(ImagePoint { id, source: source.clone() });
            // Whatever was asked for: there is nothing that could be written to.
            MountPoint { target, read_only: true, mode, source }
        }
        MountSource::Volume(asked) => {
            let mut asked = asked.clone();
            // In a line there is no place to say one.
            if matches!(request.written, Written::Line { .. }) {
                asked.driver.clone_from(&spec.mounts.volume_driver);
            }
            let mode = if mode.is_empty() { VOLUME_MODE.to_owned() } else { mode };
            MountPoint { target, read_only, mode, source: PointSource::Volume(volume(&asked, new_name)) }
        }
    })
}

fn no_such_image(reference: &str) -> EngineError {
    EngineError::not_found(format!("No such image: {reference}"))
}

fn volume(asked: &VolumeSource, mut new_name: impl FnMut() -> String) -> VolumePoint {
    VolumePoint {
        name: asked.name.clone().unwrap_or_else(&mut new_name),
        anonymous: asked.name.is_none(),
        driver: if asked.driver.is_empty() { LOCAL.to_owned() } else { asked.driver.clone() },
        driver_options: asked.driver_options.clone(),
        labels: asked.labels.clone(),
        subpath: asked.subpath.clone(),
        copy: !asked.no_copy && asked.subpath.is_empty(),
    }
}

impl MountPoint {
    /// As another container has it.
    fn inherited(self, asked: &VolumesFrom) -> Self {
        let read_only = self.read_only || asked.read_only;
        let source = match self.source {
            // It was filled when it was new, or never will be.
            PointSource::Volume(volume) => PointSource::Volume(VolumePoint { copy: false, ..volume }),
            other @ (PointSource::Host(_) | PointSource::Image(_)) => other,
        };
        Self { read_only, source, mode: String::new(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::mounts::{
        HostSource, IfMissing, ImageSource, MountRequests, MountsBelow, Propagation,
    };
    use crate::image::Digest;

    fn image_id() -> ImageId {
        ImageId(Digest::of(b"an image"))
    }

    fn host(target: &str, path: &str) -> MountRequest {
        let source = MountSource::Host(HostSource {
            path: path.into(),
            if_missing: IfMissing::Make,
            propagation: Propagation::default(),
            below: MountsBelow::default(),
        });
        let written = Written::Line { text: format!("{path}:{target}"), mode: String::new() };
        MountRequest { target: target.into(), read_only: false, source, written }
    }

    fn named(target: &str, name: Option<&str>) -> MountRequest {
        let volume = VolumeSource { name: name.map(str::to_owned), ..VolumeSource::default() };
        let written = Written::Fields { consistency: String::new() };
        let source = MountSource::Volume(volume);
        MountRequest { target: target.into(), read_only: false, source, written }
    }

    fn spec(requests: Vec<MountRequest>, own: &[&str]) -> ContainerSpec {
        let own_volumes: BTreeSet<String> = own.iter().map(|&target| target.to_owned()).collect();
        let mounts = MountRequests { requests, own_volumes, ..MountRequests::default() };
        ContainerSpec { mounts, ..ContainerSpec::default() }
    }

    fn planned(spec: &ContainerSpec, inherited: Vec<Inherited>) -> Result<Vec<MountPoint>, String> {
        let mut count = 0;
        let new_name = || {
            count += 1;
            format!("new{count}")
        };
        let images = [("here".to_owned(), image_id())].into();
        plan(spec, inherited, &images, new_name).map_err(|error| error.message)
    }

    fn shown(points: &[MountPoint]) -> Vec<String> {
        let show = |point: &MountPoint| match &point.source {
            PointSource::Host(host) => format!("{} {}", point.target, host.path),
            PointSource::Volume(volume) => format!("{} {}", point.target, volume.name),
            PointSource::Image(image) => format!("{} {}", point.target, image.source.reference),
        };
        points.iter().map(show).collect()
    }

    #[test]
    fn what_lies_deeper_is_mounted_later() {
        let requests =
            vec![host("/a/b/c", "/x"), named("/z", Some("v")), host("/a//", "/y/../w"), named("/a/b", None)];
        let points = planned(&spec(requests, &[]), vec![]).unwrap();
        assert_eq!(shown(&points), ["/a /w", "/z v", "/a/b new1", "/a/b/c /x"]);
    }

    #[test]
    fn two_requests_for_one_place_are_one_too_many() {
        let twice = spec(vec![host("/a", "/x"), named("/b/../a/", Some("v"))], &[]);
        assert_eq!(planned(&twice, vec![]).unwrap_err(), "Duplicate mount point: /a");
        let mut in_memory = spec(vec![host("/a", "/x")], &[]);
        in_memory.tmpfs.insert("/a/".into(), String::new());
        assert_eq!(planned(&in_memory, vec![]).unwrap_err(), "Duplicate mount point: /a");
    }

    #[test]
    fn an_images_volume_gives_way_to_everything() {
        let mut spec = spec(vec![host("/a", "/x")], &["/a", "/b/", "/c", "/d"]);
        spec.tmpfs.insert("/c".into(), String::new());
        let other = planned(&self::spec(vec![named("/d", Some("theirs"))], &[]), vec![]).unwrap();
        let asked = VolumesFrom { text: "db:ro".into(), container: "db".into(), read_only: true };
        let points = planned(&spec, vec![Inherited { asked, points: other }]).unwrap();
        assert_eq!(shown(&points), ["/a /x", "/b new1", "/d theirs"]);
        assert!(points[1].volume().unwrap().anonymous && points[1].volume().unwrap().copy);
        let inherited = &points[2];
        assert!(inherited.read_only && !inherited.volume().unwrap().copy);
        assert!(!inherited.volume().unwrap().anonymous, "somebody has named it");
    }

    #[test]
    fn a_driver_for_all_is_for_those_that_cannot_say_one() {
        let line = MountRequest {
            written: Written::Line { text: "v:/a:ro".into(), mode: "ro".into() },
            ..named("/a", Some("v"))
        };
        let mut spec = spec(vec![line, named("/b", Some("w"))], &["/c"]);
        spec.mounts.volume_driver = "theirs".into();
        let points = planned(&spec, vec![]).unwrap();
        let drivers: Vec<_> = points.iter().map(|point| point.volume().unwrap().driver.as_str()).collect();
        assert_eq!(drivers, ["theirs", "local", "theirs"]);
        let modes: Vec<_> = points.iter().map(|point| point.mode.as_str()).collect();
        assert_eq!(modes, ["ro", "z", ""]);
    }

    #[test]
    fn an_image_is_what_its_reference_meant_and_cannot_be_written() {
        let image = |target: &str, reference: &str| {
            let source = ImageSource { reference: reference.into(), subpath: "etc".into() };
            MountRequest { source: MountSource::Image(source), ..named(target, None) }
        };
        let points = planned(&spec(vec![image("/a", "here")], &[]), vec![]).unwrap();
        let point = points[0].image().unwrap();
        assert_eq!((point.id, point.source.subpath.as_str(), points[0].read_only), (image_id(), "etc", true));
        let missing = planned(&spec(vec![image("/a", "gone")], &[]), vec![]);
        assert_eq!(missing.unwrap_err(), "No such image: gone");
    }

    proptest! {
        #[test]
        fn places_are_clean_different_and_in_an_order_that_can_be_mounted(
            targets in proptest::collection::vec("/[ab./]{0,6}", 0..8),
            own in proptest::collection::btree_set("/[ab./]{0,6}", 0..4),
        ) {
            let requests = targets.iter().map(|target| host(target, "/x")).collect();
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            let Ok(points) = planned(&spec(requests, &own), vec![]) else { return Ok(()) };
            for (number, point) in points.iter().enumerate() {
                prop_assert_eq!(&clean(&point.target), &point.target);
                let below = format!("{}/", point.target.trim_end_matches('/'));
                for earlier in &points[..number] {
                    prop_assert_ne!(&earlier.target, &point.target);
                    prop_assert!(!earlier.target.starts_with(&below), "{} hides {}", point.target, earlier.target);
                }
            }
        }
    }
}
