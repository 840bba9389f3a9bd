//! A container's log: its files, and what stands beside each of its records.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::error::EngineError;
use super::identity::ContainerId;
use super::spec::ContainerSpec;
use crate::image::ImageId;
use crate::logs::{LogDriver, LogFiles};

/// Nothing for a container whose output is not kept.
pub(super) fn log_files(id: &ContainerId, spec: &ContainerSpec, directory: &Path) -> Option<Arc<LogFiles>> {
    if spec.log.driver == LogDriver::None {
        return None;
    }
    let path = directory.join(format!("{id}-json.log"));
    Some(Arc::new(LogFiles::new(path, spec.log.rotation)))
}

/// Docker's refusal to read a log that nobody keeps.
pub(super) fn not_kept() -> EngineError {
    EngineError::new(super::ErrorKind::NotSupported, "configured logging driver does not support reading")
}

/// The labels, variables and the tag that the driver's options ask for.
pub(super) fn attributes(
    id: &ContainerId,
    name: &str,
    image: ImageId,
    spec: &ContainerSpec,
) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    for label in &spec.log.labels {
        if let Some(value) = spec.labels.get(label) {
            attributes.insert(label.clone(), value.clone());
        }
    }
    for variable in &spec.log.variables {
        let value =
            spec.env.iter().find_map(|entry| entry.split_once('=').filter(|(name, _)| name == variable));
        if let Some((name, value)) = value {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some(tag) = &spec.log.tag {
        attributes.insert("tag".to_owned(), expand(tag, id, name, image, spec));
    }
    attributes
}

/// The placeholders that a tag may have, which the API has checked.
fn expand(tag: &str, id: &ContainerId, name: &str, image: ImageId, spec: &ContainerSpec) -> String {
    let values = [
        ("{{.ID}}", id.short().to_owned()),
        ("{{.FullID}}", id.to_string()),
        ("{{.Name}}", name.to_owned()),
        ("{{.ImageID}}", image.short()),
        ("{{.ImageFullID}}", image.to_string()),
        ("{{.ImageName}}", spec.image.clone()),
        ("{{.DaemonName}}", "berth".to_owned()),
    ];
    values.iter().fold(tag.to_owned(), |tag, (placeholder, value)| tag.replace(placeholder, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::LogSettings;

    #[test]
    fn what_the_options_name_stands_beside_each_record() {
        let id = ContainerId::random();
        let image = ImageId(crate::image::Digest::of(b""));
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let spec = ContainerSpec {
            image: "busybox".into(),
            env: words(&["A=1=2", "B=2"]),
            labels: BTreeMap::from([("app".into(), "web".into()), ("x".into(), "y".into())]),
            log: LogSettings {
                labels: words(&["app", "nosuch"]),
                variables: words(&["A"]),
                tag: Some("{{.ImageName}}/{{.Name}}/{{.ID}}".into()),
                ..LogSettings::default()
            },
            ..ContainerSpec::default()
        };
        let attributes = attributes(&id, "web", image, &spec);
        let tag = format!("busybox/web/{}", id.short());
        let expected = [("A", "1=2"), ("app", "web"), ("tag", tag.as_str())];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(attributes, BTreeMap::from(expected));
    }
}
