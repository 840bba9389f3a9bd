//! The shape of the main replies: every field that the specification documents is there with its type, or is listed
//! as absent with a reason. Whether a value is right is for the tests of each endpoint.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::images::tests::with_images;
use crate::api::tests::TestDaemon;

/// The documented fields of version 1.51. A type is `string`, `integer`, `boolean`, `object`, the name of a shape, or
/// one of them in brackets for a list of it; `?` follows what may be null there or in replies of dockerd.
#[derive(Deserialize)]
struct Documented {
    shapes: BTreeMap<String, BTreeMap<String, String>>,
    /// "Shape.Field", and why no reply here has it.
    absent: BTreeMap<String, String>,
}

#[derive(Default)]
struct Findings {
    present: BTreeSet<String>,
    missing: BTreeSet<String>,
    of_another_type: BTreeSet<String>,
}

impl Findings {
    fn object(&mut self, documented: &Documented, shape: &str, value: &Value) {
        for (field, kind) in &documented.shapes[shape] {
            let name = format!("{shape}.{field}");
            match value.get(field) {
                Some(value) => {
                    self.value(documented, &name, kind, value);
                    self.present.insert(name);
                }
                None => drop(self.missing.insert(name)),
            }
        }
    }

    fn value(&mut self, documented: &Documented, name: &str, kind: &str, value: &Value) {
        let (kind, nullable) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
        let elements = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']'));
        let is_shape = documented.shapes.contains_key(kind);
        match value {
            // Lists and objects of Go are null while nobody filled them.
            Value::Null if nullable || is_shape || elements.is_some() || kind == "object" => {}
            Value::Array(values) if elements.is_some() => {
                for value in values {
                    self.value(documented, name, elements.unwrap_or_default(), value);
                }
            }
            Value::Object(_) if is_shape => self.object(documented, kind, value),
            Value::Object(_) if kind == "object" => {}
            Value::String(_) if kind == "string" => {}
            Value::Bool(_) if kind == "boolean" => {}
            Value::Number(number) if kind == "integer" && !number.is_f64() => {}
            other => drop(self.of_another_type.insert(format!("{name} is no {kind}: {other}"))),
        }
    }
}

/// One that asks for all that a reply leaves out otherwise.
fn request() -> Value {
    json!({
        "Image": "one", "Tty": true, "StopSignal": "SIGINT", "StopTimeout": 3,
        "Env": ["A=1"], "Entrypoint": ["/bin/true"], "ExposedPorts": { "80/tcp": {} }, "Labels": { "a": "b" },
        "Healthcheck": {
            "Test": ["CMD", "true"], "Interval": 1_000_000_000, "Timeout": 1_000_000_000,
            "StartPeriod": 1_000_000_000, "StartInterval": 1_000_000_000, "Retries": 2,
        },
        "HostConfig": {
            "Memory": 64 << 20, "PidsLimit": 10, "Init": true, "ConsoleSize": [24, 80],
            "Annotations": { "a": "b" }, "Tmpfs": { "/t": "" }, "Mounts": [{
                "Type": "tmpfs", "Target": "/m", "ReadOnly": true, "Consistency": "default",
                "TmpfsOptions": { "SizeBytes": 4096, "Mode": 0o700, "Options": [["noexec"]] },
            }], "StorageOpt": { "size": "16m" },
            "Sysctls": { "net.core.somaxconn": "64" },
            "Devices": [{ "PathOnHost": "/dev/fuse" }], "BlkioDeviceReadBps": [{ "Path": "/dev/vdb", "Rate": 9 }],
            "Ulimits": [{ "Name": "nofile", "Soft": 64, "Hard": 128 }],
        },
    })
}

async fn compare(
    findings: &mut Findings,
    documented: &Documented,
    daemon: &TestDaemon,
    path: &str,
    kind: &str,
) {
    let (status, reply) = daemon.get(path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {reply}");
    assert!(reply != json!([]), "{path} has nothing to look at");
    findings.value(documented, path, kind, &reply);
}

#[tokio::test]
async fn replies_have_the_documented_fields_with_their_types() {
    let documented: Documented = serde_json::from_str(include_str!("replies_1.51.json")).unwrap();
    let daemon = with_images(&[("one", 2001, b"1")]).await;
    let (status, created) = daemon.ask(Method::POST, "/containers/create?name=web", Some(request())).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let mut findings = Findings::default();
    for (path, kind) in [
        ("/containers/web/json?size=1", "ContainerInspectResponse"),
        ("/containers/json?all=1&size=1", "[ContainerSummary]"),
        ("/images/one/json", "ImageInspect"),
        ("/images/json", "[ImageSummary]"),
        ("/info", "SystemInfo"),
        ("/version", "SystemVersion"),
        ("/system/df", "DiskUsage"),
    ] {
        compare(&mut findings, &documented, &daemon, path, kind).await;
    }
    assert_eq!(findings.of_another_type, BTreeSet::new());
    // A list may hold one with and one without.
    let missing: BTreeSet<&String> = findings.missing.difference(&findings.present).collect();
    let listed: BTreeSet<&String> = documented.absent.keys().collect();
    let unlisted: Vec<_> = missing.difference(&listed).collect();
    assert!(unlisted.is_empty(), "documented, and neither in a reply nor listed as absent: {unlisted:#?}");
    let there: Vec<_> = listed.difference(&missing).collect();
    assert!(there.is_empty(), "listed as absent, and in a reply: {there:#?}");
}
