//! Requests through the whole router, against a real engine that has nothing in it.

use axum::body::Body;
use berth_vmm::config::Accelerator;
use clap::Parser;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::config::Flags;
use crate::database::Database;
use crate::image::ImageStore;
use crate::machine::Pace;
use crate::registry::{Registries, RegistrySettings};

/// A daemon whose files go with it.
pub(super) struct TestDaemon {
    pub(super) api: Api,
    pub(super) engine: Engine,
    root: tempfile::TempDir,
}

impl TestDaemon {
    pub(super) async fn start() -> Self {
        Self::with_registries(RegistrySettings::default()).await
    }

    pub(super) async fn with_registries(registries: RegistrySettings) -> Self {
        let root = tempfile::Builder::new().prefix("berth").tempdir_in("/tmp").unwrap();
        let settings = settings(root.path());
        let database = Database::open(&settings.data_root.join("berth.db")).unwrap();
        let images = ImageStore::open(&settings.data_root.join("image"), database.clone()).unwrap();
        let accelerator =
            Choice { accelerator: Accelerator::Tcg, pace: Pace::Ordinary, reason: "for the test" };
        let registries = Registries::new(registries).unwrap();
        let opening = Engine::open(settings.for_engine(&accelerator), images, registries, database);
        let engine = opening.await.unwrap();
        let api = Api::new(Arc::new(Daemon::new(engine.clone(), settings, accelerator)));
        Self { api, engine, root }
    }

    /// Where the image store's files are.
    pub(super) fn image_root(&self) -> std::path::PathBuf {
        self.root.path().join("data/image")
    }

    /// Where each container has a directory.
    pub(super) fn containers_root(&self) -> std::path::PathBuf {
        self.root.path().join("data/containers")
    }

    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.api.answer(request.body(body).unwrap()).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Method::GET, path, None).await
    }
}

fn settings(root: &std::path::Path) -> Settings {
    for name in ["vmlinux", "initramfs.cpio", "berth-vmm"] {
        std::fs::write(root.join(name), "").unwrap();
    }
    let flag = |name: &str, file: &str| format!("--{name}={}", root.join(file).display());
    let flags = [
        "berthd".to_owned(),
        flag("data-root", "data"),
        flag("exec-root", "run"),
        flag("kernel", "vmlinux"),
        flag("initramfs", "initramfs.cpio"),
        flag("vmm", "berth-vmm"),
        "--insecure-registry=registry.example:5000".to_owned(),
        // The host's networks are not a test's to change.
        "--bridge=none".to_owned(),
    ];
    let settings = Settings::resolve(Flags::try_parse_from(flags).unwrap()).unwrap();
    std::fs::create_dir_all(&settings.data_root).unwrap();
    std::fs::create_dir_all(&settings.exec_root).unwrap();
    settings
}

fn message(text: &str) -> Value {
    json!({ "message": text })
}

#[tokio::test]
async fn ping_carries_what_clients_negotiate_with() {
    let daemon = TestDaemon::start().await;
    for (method, body) in [(Method::GET, "OK"), (Method::HEAD, "")] {
        let request =
            axum::http::Request::builder().method(method).uri("/_ping").body(Body::empty()).unwrap();
        let response = daemon.api.answer(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        for (name, value) in [
            ("api-version", "1.51"),
            ("ostype", "linux"),
            ("docker-experimental", "false"),
            ("builder-version", "1"),
        ] {
            assert_eq!(response.headers()[name], value);
        }
        assert!(response.headers()["server"].to_str().unwrap().starts_with("Berth/"));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
}

#[tokio::test]
async fn every_version_from_1_24_on_is_answered() {
    let daemon = TestDaemon::start().await;
    for path in ["/version", "/v1.24/version", "/v1.51/version"] {
        let (status, reply) = daemon.get(path).await;
        assert_eq!((status, &reply["MinAPIVersion"]), (StatusCode::OK, &json!("1.24")), "{path}");
    }
    assert_eq!(daemon.get("/v1.23/version").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(daemon.get("/v1.52/version").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_unknown_path_is_not_found_and_a_missing_endpoint_says_its_name() {
    let daemon = TestDaemon::start().await;
    let not_found = (StatusCode::NOT_FOUND, message("page not found"));
    assert_eq!(daemon.get("/v1.43/nothing").await, not_found);
    assert_eq!(daemon.ask(Method::PUT, "/info", None).await, not_found);
    let (status, reply) = daemon.get("/v1.43/plugins/privileges").await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(reply, message("GET /plugins/privileges is not supported by berth yet"));
    assert_eq!(daemon.ask(Method::POST, "/swarm/init", None).await.0, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn every_missing_endpoint_is_reached_and_answers_so() {
    let daemon = TestDaemon::start().await;
    for (method, path) in missing::endpoints() {
        let path = path.replace("{id}", "x").replace("{name}", "x").replace("{checkpoint}", "x");
        let (status, _) = daemon.ask(method.clone(), &format!("/v1.51{path}"), None).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{method} {path}");
    }
}

#[tokio::test]
async fn info_says_which_accelerator_and_warns_of_what_it_is_not() {
    let daemon = TestDaemon::start().await;
    let (status, reply) = daemon.get("/info").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(reply["Berth"]["Accelerator"], "tcg");
    assert_eq!(reply["DriverStatus"][0], json!(["Accelerator", "tcg (for the test)"]));
    assert!(reply["Warnings"][0].as_str().unwrap().contains("no security boundary"));
    assert_eq!(reply["DriverStatus"][1], json!(["Jail", "emulator"]));
    assert_eq!(
        reply["SecurityOptions"],
        json!(["name=jail,profile=emulator", "name=seccomp,profile=builtin", "name=cgroupns"])
    );
    assert_eq!(reply["RegistryConfig"]["IndexConfigs"]["registry.example:5000"]["Secure"], false);
    assert_eq!((&reply["Containers"], &reply["Images"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn images_that_are_not_here_are_named() {
    let daemon = TestDaemon::start().await;
    assert_eq!(daemon.get("/images/json").await, (StatusCode::OK, json!([])));
    for (method, path) in [
        (Method::GET, "/images/team/app:1/json"),
        (Method::GET, "/images/team/app:1/history"),
        (Method::DELETE, "/images/team/app:1"),
    ] {
        let (status, reply) = daemon.ask(method, path, None).await;
        assert_eq!((status, reply), (StatusCode::NOT_FOUND, message("No such image: team/app:1")));
    }
}

#[tokio::test]
async fn pulls_that_name_nothing_are_refused_before_a_registry_is_asked() {
    let daemon = TestDaemon::start().await;
    for (query, text) in [
        ("fromImage=Alpine&tag=3", "invalid reference format: repository name (Alpine) must be lowercase"),
        ("fromImage=alpine&tag=-", "invalid reference format: \"docker.io/library/alpine:-\""),
        (
            "fromImage=alpine&tag=3&platform=a/b/c/d",
            "\"a/b/c/d\" is no platform of the form os[/architecture[/variant]]",
        ),
        ("tag=3", "fromImage is missing"),
    ] {
        let (status, reply) = daemon.ask(Method::POST, &format!("/images/create?{query}"), None).await;
        assert_eq!((status, reply), (StatusCode::BAD_REQUEST, message(text)), "{query}");
    }
}

#[tokio::test]
async fn what_is_no_archive_is_refused_as_the_clients_fault() {
    let daemon = TestDaemon::start().await;
    let request = axum::http::Request::post("/images/load").body(Body::from("no archive")).unwrap();
    let response = daemon.api.answer(request).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn containers_that_are_not_here_are_named_by_every_verb() {
    let daemon = TestDaemon::start().await;
    for (method, path) in [
        (Method::GET, "/containers/nope/json"),
        (Method::POST, "/containers/nope/start"),
        (Method::POST, "/containers/nope/stop"),
        (Method::POST, "/containers/nope/restart"),
        (Method::POST, "/containers/nope/wait"),
        (Method::GET, "/containers/nope/logs?stdout=1"),
        (Method::POST, "/containers/nope/attach"),
        (Method::POST, "/containers/nope/resize?h=1&w=1"),
        (Method::DELETE, "/containers/nope"),
    ] {
        let answer = daemon.ask(method, path, None).await;
        assert_eq!(answer, (StatusCode::NOT_FOUND, message("No such container: nope")), "{path}");
    }
    let killed = |reason: &str| message(&format!("cannot kill container: nope: {reason}"));
    let answer = daemon.ask(Method::POST, "/containers/nope/kill?signal=TERM", None).await;
    assert_eq!(answer, (StatusCode::NOT_FOUND, killed("No such container: nope")));
    let answer = daemon.ask(Method::POST, "/containers/nope/kill?signal=NOSUCH", None).await;
    assert_eq!(answer, (StatusCode::BAD_REQUEST, killed("invalid signal: NOSUCH")));
}

#[tokio::test]
async fn a_container_of_an_unknown_image_is_not_made() {
    let daemon = TestDaemon::start().await;
    let body = json!({ "Image": "nope", "Cmd": ["true"] });
    let answer = daemon.ask(Method::POST, "/containers/create", Some(body)).await;
    assert_eq!(answer, (StatusCode::NOT_FOUND, message("No such image: nope:latest")));
    assert_eq!(daemon.get("/containers/json?all=1").await, (StatusCode::OK, json!([])));
}

#[tokio::test]
async fn a_prune_without_containers_says_null_and_a_rename_of_none_that_there_is_none() {
    let daemon = TestDaemon::start().await;
    let pruned = daemon.ask(Method::POST, "/containers/prune", None).await;
    assert_eq!(pruned, (StatusCode::OK, json!({ "ContainersDeleted": null, "SpaceReclaimed": 0 })));
    for (path, status, text) in [
        ("/containers/x/rename?name=y1", StatusCode::NOT_FOUND, "No such container: x"),
        ("/containers/x/rename", StatusCode::BAD_REQUEST, "Neither old nor new names may be empty"),
    ] {
        assert_eq!(daemon.ask(Method::POST, path, None).await, (status, message(text)));
    }
}

#[tokio::test]
async fn filters_are_docker_s_or_refused() {
    let daemon = TestDaemon::start().await;
    for (filters, status) in [
        (r#"{"status":["running"]}"#, StatusCode::OK),
        (r#"{"status":["nope"]}"#, StatusCode::BAD_REQUEST),
        (r#"{"nope":["x"]}"#, StatusCode::BAD_REQUEST),
        (r#"{"network":["x"],"health":["healthy"],"expose":["80/tcp"]}"#, StatusCode::OK),
        (r#"{"health":["ill"]}"#, StatusCode::BAD_REQUEST),
        (r#"{"is-task":["perhaps"]}"#, StatusCode::BAD_REQUEST),
        (r#"{"before":["nope"]}"#, StatusCode::NOT_FOUND),
    ] {
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(daemon.get(&format!("/containers/json?filters={encoded}")).await.0, status, "{filters}");
    }
}

#[tokio::test]
async fn what_a_request_says_wrong_is_said_back() {
    let daemon = TestDaemon::start().await;
    for (path, text) in [
        ("/containers/nope/kill?signal=NOPE", "nvalid signal: NOPE"),
        ("/containers/nope/wait?condition=x", "invalid condition: \"x\""),
        ("/containers/nope/resize?h=x&w=1", "invalid resize height \"x\": invalid syntax"),
        ("/containers/nope/resize?h=1", "invalid resize width \"\": invalid syntax"),
        ("/exec/nope/resize?h=1&w=65536", "invalid resize width \"65536\": value out of range"),
        ("/containers/nope/attach?detachKeys=ctrl-", "Invalid detach keys (ctrl-) provided"),
    ] {
        let (status, reply) = daemon.ask(Method::POST, path, None).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(reply["message"].as_str().unwrap().ends_with(text), "{reply}");
    }
}

#[tokio::test]
async fn events_that_were_are_replayed_and_the_stream_ends_at_its_time() {
    let daemon = TestDaemon::start().await;
    for action in ["pull", "tag"] {
        daemon.engine.publish_image(action, "a:1".to_owned(), "a".to_owned(), None);
    }
    let (status, reply) =
        daemon.get("/events?until=1s&filters=%7B%22event%22%3A%5B%22tag%22%5D%7D&since=0").await;
    assert_eq!((status, reply), (StatusCode::OK, Value::Null), "until is a second before anything happened");
    let until = jiff::Timestamp::now().as_second() + 1;
    let path = format!("/events?since=0&until={until}&filters=%7B%22event%22%3A%5B%22tag%22%5D%7D");
    let (status, reply) = daemon.get(&path).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&reply["Action"], &reply["id"]), (&json!("tag"), &json!("a:1")));
    let (status, reply) = daemon.get("/events?since=yesterday").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{reply}");
    assert_eq!(daemon.engine.events().listeners(), 0, "streams that ended leave nothing");
}
