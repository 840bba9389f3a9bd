//! The request as a whole: nothing that a client sets is dropped.

use serde_json::json;

use super::*;
use crate::engine::{AutoRemove, Signal};

/// What docker 28 sends for `docker create busybox true`.
const DOCKER_CLI: &str = include_str!("docker_cli_28.json");

fn decoded(value: &Value) -> ApiResult<(ContainerSpec, Vec<String>)> {
    decode(value.as_object().unwrap(), 2)
}

fn with_host_config(field: &str, value: &Value) -> ApiResult<(ContainerSpec, Vec<String>)> {
    decoded(&json!({ "Image": "busybox", "HostConfig": { field: value } }))
}

#[test]
fn the_docker_clis_defaults_pass_without_a_warning() {
    let request: Value = serde_json::from_str(DOCKER_CLI).unwrap();
    let (spec, warnings) = decoded(&request).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(spec.image, "busybox");
    assert_eq!(spec.command, Some(vec!["true".to_owned()]));
    assert_eq!(spec.limits, crate::engine::Limits::default());
}

#[test]
fn fields_that_ask_for_something_else_are_refused_by_name() {
    let asking = [("LogConfig", json!({ "Type": "syslog" })), ("CgroupnsMode", json!("container:other"))];
    for (field, value) in asking {
        let error = with_host_config(field, &value).unwrap_err();
        assert_eq!(error.status, 501, "{field} {value}");
        assert!(error.message.contains(&format!("HostConfig.{field}")), "{}", error.message);
    }
}

#[test]
fn other_spellings_of_the_defaults_pass() {
    for (field, value) in [
        ("NetworkMode", json!("none")),
        ("LogConfig", json!({ "Type": "json-file", "Config": null })),
        ("RestartPolicy", json!({ "Name": "" })),
        ("MemorySwappiness", json!(-1)),
        ("Isolation", json!("machine")),
        ("Runtime", json!("io.containerd.runc.v2")),
        ("CgroupnsMode", json!("private")),
        ("MaskedPaths", json!(null)),
        ("Binds", json!(null)),
        ("ContainerIDFile", json!("/tmp/id")),
        ("NoSuchField", json!(true)),
    ] {
        assert_eq!(with_host_config(field, &value).unwrap().1, Vec::<String>::new(), "{field} {value}");
    }
}

#[test]
fn what_linux_does_not_have_is_refused_in_dockers_words() {
    for (field, value, message) in [
        ("CpuRealtimeRuntime", json!(950_000), "kernel does not support CPU real-time scheduler"),
        ("Isolation", json!("hyperv"), "invalid isolation (hyperv): linux only supports 'default'"),
        ("Runtime", json!("nvidia"), "unknown or invalid runtime name: nvidia"),
        (
            "DeviceRequests",
            json!([{ "Driver": "", "Count": -1, "Capabilities": [["gpu", "compute"], ["x"]] }]),
            "could not select device driver \"\" with capabilities: [[gpu compute] [x]]",
        ),
    ] {
        let error = with_host_config(field, &value).unwrap_err();
        assert_eq!((error.status.as_u16(), error.message.as_str()), (400, message));
    }
}

#[test]
fn what_docker_discards_is_discarded_with_a_warning() {
    for (field, value, begins) in [
        ("KernelMemory", json!(64 << 20), "Your kernel does not support kernel memory limit capabilities"),
        ("MemorySwappiness", json!(0), "Your kernel does not support memory swappiness capabilities"),
        ("CpuPercent", json!(50), "linux does not support CPU percent"),
        ("CpuCount", json!(2), "HostConfig.CpuCount has no effect"),
    ] {
        let (_, warnings) = with_host_config(field, &value).unwrap();
        assert!(warnings.len() == 1 && warnings[0].starts_with(begins), "{warnings:?}");
    }
}

#[test]
fn what_is_removed_at_its_end_cannot_be_restarted() {
    let unhealthy = json!({ "berth.restart-unhealthy": "true" });
    for (labels, host_config) in [
        (json!({}), json!({ "AutoRemove": true, "RestartPolicy": { "Name": "always" } })),
        (unhealthy, json!({ "AutoRemove": true })),
    ] {
        let error = decoded(&json!({ "Labels": labels, "HostConfig": host_config })).unwrap_err();
        let begins = error.message.starts_with("can't create 'AutoRemove' container with ");
        assert!(error.status == 400 && begins, "{}", error.message);
    }
    let request =
        json!({ "Image": "x", "HostConfig": { "AutoRemove": true, "RestartPolicy": { "Name": "no" } } });
    assert!(decoded(&request).is_ok());
}

#[test]
fn names_of_fields_fit_in_any_case_and_none_slips_through() {
    let (spec, _) = decoded(&json!({ "image": "busybox", "hostconfig": { "pidslimit": 7 } })).unwrap();
    assert_eq!((spec.image.as_str(), spec.limits.pids), ("busybox", Some(7)));
    let refused = decoded(&json!({ "image": "busybox", "hostConfig": { "cgroupnsmode": "container:db" } }));
    assert_eq!(refused.unwrap_err().status, 501);
}

#[test]
fn null_asks_for_nothing_at_any_depth() {
    let request = json!({
        "Image": "busybox", "Cmd": null, "Labels": { "a": null }, "Healthcheck": { "Test": null, "Interval": null },
        "HostConfig": { "RestartPolicy": { "Name": null }, "LogConfig": { "Type": null, "Config": null }, "Binds": null },
    });
    let (spec, _) = decoded(&request).unwrap();
    assert_eq!(spec.labels["a"], "");
    assert_eq!(spec.restart, crate::engine::RestartPolicy::No);
}

#[test]
fn what_matters_only_to_builds_is_a_warning() {
    let (_, warnings) = decoded(&json!({ "Shell": ["/bin/sh"], "Image": "x" })).unwrap();
    assert_eq!(warnings, ["Shell has no effect: it matters only to builds and was not kept"]);
}

#[test]
fn a_request_becomes_the_engines_words() {
    let (spec, _) = decoded(&json!({
        "Image": "busybox", "Cmd": "true", "Tty": true, "OpenStdin": true, "StopSignal": "SIGINT",
        "WorkingDir": "/w", "Env": ["A=1", "B"], "ExposedPorts": { "80/tcp": {} },
        "HostConfig": {
            "Memory": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 10, "AutoRemove": true, "Init": true,
            "ConsoleSize": [24, 80], "GroupAdd": ["wheel"], "ExtraHosts": ["db:10.0.0.1", "v6:[::1]"],
            "Tmpfs": { "/t": "size=1m" }, "ShmSize": 1 << 20, "ReadonlyRootfs": true,
        },
    }))
    .unwrap();
    assert_eq!(spec.command, Some(vec!["true".to_owned()]));
    assert_eq!(spec.stop_signal, Some("INT".parse::<Signal>().unwrap()));
    assert_eq!(spec.auto_remove, AutoRemove::Remove);
    assert_eq!(spec.limits.memory_bytes, Some(64 << 20));
    assert_eq!(spec.limits.pids, Some(10));
    assert_eq!(spec.exposed_ports, ["80/tcp"]);
    assert_eq!(spec.tmpfs["/t"], "size=1m");
    let size = spec.stdio.terminal_size.unwrap();
    assert_eq!((size.rows, size.columns), (24, 80));
    assert!(spec.init && spec.readonly_rootfs && spec.stdio.terminal && spec.stdio.open_stdin);
}

#[test]
fn what_is_wrong_is_said_in_dockers_words() {
    for (request, message) in &[
        (json!({}), "config cannot be empty in order to create a container"),
        (
            json!({ "WorkingDir": "w" }),
            "the working directory 'w' is invalid, it needs to be an absolute path",
        ),
        (json!({ "Env": ["=x"] }), "invalid environment variable: =x"),
        (json!({ "Image": "x", "HostConfig": { "ExtraHosts": ["db"] } }), "bad format for add-host: \"db\""),
        (
            json!({ "Image": "x", "HostConfig": { "ExtraHosts": ["db:x"] } }),
            "invalid IP address in add-host: \"x\"",
        ),
        (json!({ "Image": "x", "HostConfig": { "Memory": 1000 } }), "Minimum memory limit allowed is 6MB"),
        (
            json!({ "HostConfig": { "Memory": 64 << 20 } }),
            "config cannot be empty in order to create a container",
        ),
        (json!({ "Image": "x", "HostConfig": 5 }), "invalid JSON: HostConfig is no object"),
        (json!({ "Image": "x", "hostconfig": [] }), "invalid JSON: HostConfig is no object"),
        (json!({ "Cmd": 5 }), "invalid JSON: Cmd: expected a string or a list of strings"),
        (
            json!({ "Image": "x", "HostConfig": { "CgroupParent": "/a/../b" } }),
            "invalid cgroup parent: \"/a/../b\"",
        ),
        (json!({ "Image": "x", "HostConfig": { "CgroupParent": "/" } }), "invalid cgroup parent: \"/\""),
    ] {
        let error = decoded(request).unwrap_err();
        assert_eq!((error.status.as_u16(), error.message.as_str()), (400, *message));
    }
    for (request, field) in [
        (json!({ "Tty": "yes" }), "Tty"),
        (json!({ "Image": "x", "HostConfig": { "Memory": "1g" } }), "HostConfig.Memory"),
        (
            json!({ "Image": "x", "HostConfig": { "Ulimits": [{ "Soft": "x" }] } }),
            "HostConfig.Ulimits.0.Soft",
        ),
    ] {
        let message = decoded(&request).unwrap_err().message;
        assert!(message.starts_with(&format!("invalid JSON: {field}: ")), "{message}");
    }
}

#[test]
fn a_foreign_platform_is_refused() {
    for platform in [None, Some("linux/amd64"), Some("linux"), Some("linux/amd64/v2")] {
        assert_eq!(check_platform(platform), Ok(()));
    }
    for platform in ["linux/arm64", "windows/amd64", "x"] {
        assert_eq!(check_platform(Some(platform)).unwrap_err().status, 400, "{platform}");
    }
}
