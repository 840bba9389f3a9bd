//! What clients of volumes send, and what they are answered.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api::tests::TestDaemon;

async fn create(daemon: &TestDaemon, body: Value) -> (StatusCode, Value) {
    daemon.ask(Method::POST, "/volumes/create", Some(body)).await
}

/// The names of `GET /volumes` with these filters.
async fn names(daemon: &TestDaemon, filters: Value) -> Vec<String> {
    let filters: String = url_escaped(&filters.to_string());
    let (status, reply) = daemon.get(&format!("/volumes?filters={filters}")).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    let volumes = reply["Volumes"].as_array().unwrap().iter();
    volumes.map(|volume| volume["Name"].as_str().unwrap().to_owned()).collect()
}

fn url_escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn a_volume_is_made_once_shown_and_removed() {
    let daemon = TestDaemon::start().await;
    let (status, made) = create(&daemon, json!({ "Name": "data", "Labels": { "a": "1" } })).await;
    assert_eq!(status, StatusCode::CREATED);
    for (field, value) in [
        ("Name", json!("data")),
        ("Driver", json!("local")),
        ("Scope", json!("local")),
        ("Labels", json!({ "a": "1" })),
        ("Options", Value::Null),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let mountpoint = made["Mountpoint"].as_str().unwrap();
    assert!(mountpoint.ends_with("/volumes/data/_data") && std::path::Path::new(mountpoint).is_dir());
    // Whatever else is asked for, it is the one that is there.
    assert_eq!(create(&daemon, json!({ "Name": "data", "Driver": "local" })).await, (status, made.clone()));
    assert_eq!(daemon.get("/volumes/data").await, (StatusCode::OK, made.clone()));
    let listed = json!({ "Volumes": [made], "Warnings": null });
    assert_eq!(daemon.get("/volumes").await, (StatusCode::OK, listed));
    let usage = daemon.get("/system/df?type=volume").await.1;
    assert_eq!(usage["Volumes"][0]["UsageData"], json!({ "Size": 0, "RefCount": 0 }));
    let gone = (StatusCode::NOT_FOUND, json!({ "message": "get data: no such volume" }));
    assert_eq!(daemon.ask(Method::DELETE, "/volumes/data", None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(daemon.get("/volumes/data").await, gone);
    assert_eq!(daemon.ask(Method::DELETE, "/volumes/data", None).await, gone);
    assert_eq!(daemon.ask(Method::DELETE, "/volumes/data?force=1", None).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_list_has_what_fits_all_filters() {
    let daemon = TestDaemon::start().await;
    for (name, labels) in
        [("web-1", json!({ "tier": "front" })), ("web-2", json!(null)), ("db", json!({ "tier": "back" }))]
    {
        create(&daemon, json!({ "Name": name, "Labels": labels })).await;
    }
    for (filters, expected) in [
        (json!({}), vec!["db", "web-1", "web-2"]),
        (json!({ "name": ["web"] }), vec!["web-1", "web-2"]),
        (json!({ "name": { "^db$": true } }), vec!["db"]),
        (json!({ "label": ["tier"] }), vec!["db", "web-1"]),
        (json!({ "label": ["tier=back"], "name": ["web"] }), vec![]),
        (json!({ "driver": ["local"] }), vec!["db", "web-1", "web-2"]),
        (json!({ "driver": ["nfs"] }), vec![]),
        (json!({ "dangling": ["true"] }), vec!["db", "web-1", "web-2"]),
        (json!({ "dangling": ["false"] }), vec![]),
    ] {
        assert_eq!(names(&daemon, filters.clone()).await, expected, "{filters}");
    }
}

#[tokio::test]
async fn a_prune_takes_those_without_a_name_unless_it_is_to_take_all() {
    let daemon = TestDaemon::start().await;
    let (_, anonymous) = create(&daemon, json!({})).await;
    assert_eq!(anonymous["Labels"], json!({ "com.docker.volume.anonymous": "" }));
    create(&daemon, json!({ "Name": "kept", "Labels": { "keep": "" } })).await;
    let (_, named) = create(&daemon, json!({ "Name": "named" })).await;
    let file = format!("{}/file", named["Mountpoint"].as_str().unwrap());
    std::fs::write(file, [0; 1000]).unwrap();
    let prune = async |path: &str| daemon.ask(Method::POST, path, None).await.1;
    let pruned = prune("/v1.51/volumes/prune").await;
    assert_eq!(pruned, json!({ "VolumesDeleted": [anonymous["Name"]], "SpaceReclaimed": 0 }));
    assert_eq!(prune("/v1.51/volumes/prune").await, json!({ "VolumesDeleted": null, "SpaceReclaimed": 0 }));
    let filters = url_escaped(r#"{"label!":["keep"],"all":["1"]}"#);
    let pruned = prune(&format!("/v1.51/volumes/prune?filters={filters}")).await;
    assert_eq!(pruned, json!({ "VolumesDeleted": ["named"], "SpaceReclaimed": 1000 }));
    // Clients of before 1.42 know no other than all.
    assert_eq!(prune("/v1.41/volumes/prune").await["VolumesDeleted"], json!(["kept"]));
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let daemon = TestDaemon::start().await;
    for (body, status, message) in [
        (json!({ "Name": "a" }), 400, "create a: volume name is too short"),
        (json!({ "Name": "../../etc" }), 400, "create ../../etc: \"../../etc\" includes invalid characters"),
        (
            json!({ "Name": "x1", "Driver": "foo" }),
            404,
            "create x1: error looking up volume plugin foo: plugin",
        ),
        (json!({ "Name": "x1", "DriverOpts": { "x": "y" } }), 400, "create x1: invalid option: \"x\""),
        (
            json!({ "Name": "x1", "DriverOpts": { "type": "nfs", "device": ":/" } }),
            501,
            "create x1: a volume of the type \"nfs\"",
        ),
        (json!({ "Name": "x1", "ClusterVolumeSpec": {} }), 503, "This node is not a swarm manager."),
        (json!({ "Name": 5 }), 400, "invalid JSON: Name: "),
        (json!({ "Name": "x1", "Labels": ["a"] }), 400, "invalid JSON: Labels: "),
        (json!([]), 400, "invalid JSON: "),
    ] {
        let (found, reply) = create(&daemon, body.clone()).await;
        let said = reply["message"].as_str().unwrap_or_default();
        assert!(found.as_u16() == status && said.starts_with(message), "{body}: {found} {reply}");
    }
    for (method, path, status, message) in [
        (Method::POST, "/volumes/create", 400, "invalid JSON: got EOF while reading request body"),
        (Method::GET, "/volumes?filters=x", 400, "invalid filter: "),
        (Method::GET, "/volumes?filters=%7B%22x%22%3A%5B%22y%22%5D%7D", 400, "invalid filter 'x'"),
        (
            Method::POST,
            "/volumes/prune?filters=%7B%22until%22%3A%5B%221h%22%5D%7D",
            400,
            "invalid filter 'until'",
        ),
        (Method::GET, "/volumes/..%2f..", 404, "get ../..: no such volume"),
        (Method::DELETE, "/volumes/nope", 404, "get nope: no such volume"),
        (Method::PUT, "/volumes/nope?version=1", 503, "volume update only valid for cluster volumes"),
    ] {
        let (found, reply) = daemon.ask(method, path, None).await;
        let said = reply["message"].as_str().unwrap_or_default();
        assert!(found.as_u16() == status && said.starts_with(message), "{path}: {found} {reply}");
    }
    assert_eq!(names(&daemon, json!({})).await, Vec::<String>::new());
}
