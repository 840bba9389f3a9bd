//! The shape of the main replies: every field that the specification documents is there with its type, or is listed
//! as absent with a reason. Whether a value is right is for the tests of each endpoint.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::containers;
use crate::api::exec::ExecInspect;
use crate::api::images::tests::with_images;
use crate::api::tests::TestDaemon;
use crate::engine::{ContainerView, ExecSpec, ExecView};

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
            }, {
                "Type": "bind", "Source": "/", "Target": "/b", "ReadOnly": true,
                "BindOptions": { "NonRecursive": true },
            }, {
                "Type": "volume", "Source": "data", "Target": "/v", "VolumeOptions": { "NoCopy": true },
            }], "StorageOpt": { "size": "16m" },
            "Sysctls": { "net.core.somaxconn": "64" },
            "Devices": [{ "PathOnHost": "/dev/fuse" }], "BlkioDeviceReadBps": [{ "Path": "/dev/vdb", "Rate": 9 }],
            "Ulimits": [{ "Name": "nofile", "Soft": 64, "Hard": 128 }],
        },
    })
}

/// Requests whose replies have these shapes, in an order in which each has something to tell.
#[rustfmt::skip]
const REPLIES: &[(&str, &str, &str, &str)] = &[
    ("GET", "/containers/web/json?size=1", "", "ContainerInspectResponse"),
    ("GET", "/containers/json?all=1&size=1", "", "[ContainerSummary]"),
    ("GET", "/images/one/json", "", "ImageInspect"),
    ("GET", "/images/json", "", "[ImageSummary]"),
    ("GET", "/images/one/history", "", "[ImageHistoryResponseItem]"),
    ("GET", "/info", "", "SystemInfo"),
    ("GET", "/version", "", "SystemVersion"),
    ("GET", "/system/df", "", "DiskUsage"),
    ("GET", "/events?since=1&until=0s&filters=%7B%22event%22%3A%5B%22create%22%5D%2C%22type%22%3A%5B%22container%22%5D%7D", "", "EventMessage"),
    ("GET", "/containers/web/stats?stream=0", "", "ContainerStatsResponse"),
    ("POST", "/containers/web/update", r#"{"CpuShares": 7}"#, "ContainerUpdateResponse"),
    ("POST", "/containers/web/wait", "", "ContainerWaitResponse"),
    ("POST", "/containers/prune", "", "ContainerPruneResponse"),
    ("POST", "/images/prune", "", "ImagePruneResponse"),
    ("DELETE", "/images/one", "", "[ImageDeleteResponseItem]"),
];

async fn compare(
    findings: &mut Findings,
    documented: &Documented,
    daemon: &TestDaemon,
    (method, path, body, kind): (&str, &str, &str, &str),
) {
    let body = (!body.is_empty()).then(|| serde_json::from_str(body).unwrap());
    let (status, reply) = daemon.ask(method.parse().unwrap(), path, body).await;
    assert_eq!(status, StatusCode::OK, "{path}: {reply}");
    assert!(reply != json!([]) && reply != Value::Null, "{path} has nothing to look at");
    findings.value(documented, path, kind, &reply);
}

/// Replies about processes, which take a machine: what the daemon makes of what an agent would tell.
fn of_processes(findings: &mut Findings, documented: &Documented, view: &ContainerView) {
    let exec = ExecView {
        id: "e".to_owned(),
        container_id: view.id.clone(),
        spec: ExecSpec { args: vec!["sh".to_owned()], user: Some("me".to_owned()), ..ExecSpec::default() },
        pid: Some(7),
        running: true,
        exit_code: None,
    };
    let exec = serde_json::to_value(ExecInspect::from(exec)).unwrap();
    findings.value(documented, "exec", "ExecInspectResponse", &exec);
    findings.value(documented, "top", "ContainerTopResponse", &containers::example_of_top());
    findings.value(documented, "stats", "ContainerStatsResponse", &containers::example_of_stats(view));
}

#[tokio::test]
async fn replies_have_the_documented_fields_with_their_types() {
    let documented: Documented = serde_json::from_str(include_str!("replies_1.51.json")).unwrap();
    let daemon = with_images(&[("one", 2001, b"1")]).await;
    let (status, created) = daemon.ask(Method::POST, "/containers/create?name=web", Some(request())).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let mut findings = Findings::default();
    findings.value(&documented, "create", "ContainerCreateResponse", &created);
    of_processes(&mut findings, &documented, &daemon.engine.container("web").unwrap());
    for reply in REPLIES {
        compare(&mut findings, &documented, &daemon, *reply).await;
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

#[tokio::test]
async fn what_is_empty_is_empty_or_null_as_docker_has_it() {
    let daemon = with_images(&[("one", 2001, b"1")]).await;
    let (_, created) =
        daemon.ask(Method::POST, "/containers/create?name=web", Some(json!({ "Image": "one" }))).await;
    assert_eq!((created["Id"].as_str().map(str::len), &created["Warnings"]), (Some(64), &json!([])));
    let (_, list) = daemon.get("/containers/json?all=1").await;
    for (field, empty) in [("Ports", json!([])), ("Mounts", json!([])), ("Id", created["Id"].clone())] {
        assert_eq!(list[0][field], empty, "{field}");
    }
    let (_, view) = daemon.get("/containers/web/json").await;
    for (pointer, empty) in [
        ("/Mounts", json!([])),
        ("/ExecIDs", json!(null)),
        ("/Args", json!([])),
        ("/Config/OnBuild", json!(null)),
        ("/Config/Volumes", json!(null)),
        ("/HostConfig/Binds", json!(null)),
        ("/HostConfig/CapAdd", json!(null)),
        ("/HostConfig/Dns", json!([])),
        ("/HostConfig/Links", json!(null)),
        ("/HostConfig/SecurityOpt", json!(null)),
        ("/State/StartedAt", json!("0001-01-01T00:00:00Z")),
        ("/RestartCount", json!(0)),
    ] {
        assert_eq!(view.pointer(pointer), Some(&empty), "{pointer}");
    }
    let time = view["Created"].as_str().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
    for (path, reply) in [
        ("/containers/json?filters=%7B%22status%22%3A%5B%22dead%22%5D%7D", json!([])),
        ("/plugins", json!([])),
    ] {
        assert_eq!(daemon.get(path).await, (StatusCode::OK, reply), "{path}");
    }
}
