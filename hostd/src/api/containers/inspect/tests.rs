//! The reply's shape, against what clients look for.

use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::engine::{
    ContainerId, ContainerSpec, ContainerState, Exit, NetworkMode, NetworkSpec, Run, StartFailure, Timeline,
};
use crate::image::ImageId;

fn view(state: ContainerState) -> ContainerView {
    let spec = ContainerSpec {
        image: "busybox".into(),
        command: Some(vec!["sleep".into(), "9".into()]),
        network: NetworkSpec { mode: NetworkMode::None, ..NetworkSpec::default() },
        ..ContainerSpec::default()
    };
    ContainerView {
        id: serde_json::from_value::<ContainerId>(json!("0".repeat(64))).unwrap(),
        name: "web".into(),
        created_at: Timestamp::UNIX_EPOCH,
        image_id: ImageId(format!("sha256:{}", "0".repeat(64)).parse().unwrap()),
        spec: Arc::new(spec),
        mounts: Arc::default(),
        volume_roots: std::collections::BTreeMap::new(),
        hostname: "host".into(),
        state,
        log_path: Some("/log".into()),
        restart_count: 0,
        health: None,
        exec_ids: Vec::new(),
        timeline: None,
        endpoints: Arc::default(),
    }
}

fn inspected(state: ContainerState) -> Value {
    serde_json::to_value(reply(&view(state), "tcg")).unwrap()
}

#[test]
fn the_command_is_split_into_path_and_arguments() {
    let reply = inspected(ContainerState::Created { start_failure: None });
    assert_eq!((&reply["Path"], &reply["Args"]), (&json!("sleep"), &json!(["9"])));
    assert_eq!(reply["Name"], "/web");
}

#[test]
fn what_is_empty_has_dockers_kind_of_emptiness() {
    let reply = inspected(ContainerState::Created { start_failure: None });
    for (pointer, expected) in [
        ("/ExecIDs", json!(null)),
        ("/Mounts", json!([])),
        ("/HostConfig/Binds", json!(null)),
        ("/HostConfig/Dns", json!([])),
        ("/HostConfig/PortBindings", json!({})),
        ("/HostConfig/NetworkMode", json!("none")),
        ("/HostConfig/ShmSize", json!(64 << 20)),
        ("/NetworkSettings/Ports", json!({})),
        ("/NetworkSettings/IPAddress", json!("")),
        ("/NetworkSettings/Networks/none/NetworkID", json!("")),
        ("/Config/Labels", json!({})),
        ("/Config/Volumes", json!(null)),
        ("/Berth/StartTimeline", json!(null)),
    ] {
        assert_eq!(reply.pointer(pointer), Some(&expected), "{pointer}");
    }
}

#[test]
fn times_that_have_not_come_are_go_s_zero_time() {
    let never = "0001-01-01T00:00:00Z";
    let created = inspected(ContainerState::Created { start_failure: None });
    assert_eq!(
        (&created["State"]["StartedAt"], &created["State"]["FinishedAt"]),
        (&json!(never), &json!(never))
    );
    let running = inspected(ContainerState::Running(Run { pid: 7, started_at: Timestamp::UNIX_EPOCH }));
    assert_eq!(running["State"]["StartedAt"], "1970-01-01T00:00:00Z");
    assert_eq!((&running["State"]["FinishedAt"], &running["State"]["Pid"]), (&json!(never), &json!(7)));
}

#[test]
fn an_end_says_how_and_a_failed_start_says_why() {
    let at = Timestamp::UNIX_EPOCH;
    let exit = Exit { code: 137, oom_killed: true, error: "gone".into(), started_at: at, finished_at: at };
    let exited = inspected(ContainerState::Exited(exit));
    assert_eq!((&exited["State"]["ExitCode"], &exited["State"]["OOMKilled"]), (&json!(137), &json!(true)));
    assert_eq!((&exited["State"]["Status"], &exited["State"]["Error"]), (&json!("exited"), &json!("gone")));
    let failure = StartFailure { code: 127, message: "not found".into() };
    let failed = inspected(ContainerState::Created { start_failure: Some(failure) });
    assert_eq!((&failed["State"]["Status"], &failed["State"]["ExitCode"]), (&json!("created"), &json!(127)));
}

#[test]
fn the_timeline_is_the_last_starts() {
    let timeline =
        Timeline { image_us: 1500, machine_us: 2000, kernel_us: 3000, agent_us: 4000, container_us: 5000 };
    let view =
        ContainerView { timeline: Some(timeline), ..view(ContainerState::Created { start_failure: None }) };
    let reply = serde_json::to_value(reply(&view, "tcg")).unwrap();
    assert_eq!(reply["Berth"]["StartTimeline"][0], json!({ "Phase": "image", "Milliseconds": 1.5 }));
    assert_eq!(reply["Berth"]["Accelerator"], "tcg");
    assert_eq!(
        (&reply["Berth"]["Isolation"], &reply["HostConfig"]["Isolation"]),
        (&json!("machine"), &json!(""))
    );
}
