//! Images through the whole router: an archive goes in, and every question about it is answered.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::api::tests::TestDaemon;
use crate::image::Digest;

/// As `docker save` wrote it: an image of one file, created in `year`.
fn archive(name: &str, year: u16, content: &[u8]) -> Vec<u8> {
    let layer = tar(&[("file", content)]);
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": format!("{year}-01-02T03:04:05Z"),
        "config": {
            "Cmd": ["/bin/true"], "Labels": {"year": year.to_string()}, "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGINT", "Shell": ["/bin/sh"],
            "Healthcheck": {
                "Test": ["CMD", "true"], "Interval": 1, "Timeout": 1, "StartPeriod": 1, "StartInterval": 1, "Retries": 1,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]},
        "history": [{"created_by": "ENV x", "empty_layer": true}, {"created_by": "COPY file", "comment": "c"}],
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    tar(&[
        ("config.json", config.to_string().as_bytes()),
        ("layer.tar", &layer),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

async fn send(daemon: &TestDaemon, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
    let request = axum::http::Request::post(path).body(Body::from(body)).unwrap();
    let response = daemon.api.answer(request).await;
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

pub(in crate::api) async fn with_images(images: &[(&str, u16, &[u8])]) -> TestDaemon {
    let daemon = TestDaemon::start().await;
    for (name, year, content) in images {
        assert_eq!(send(&daemon, "/images/load", archive(name, *year, content)).await.0, StatusCode::OK);
    }
    daemon
}

async fn listed(daemon: &TestDaemon, filters: &Value) -> Vec<String> {
    let encoded: String = filters.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (status, reply) = daemon.get(&format!("/images/json?filters={encoded}")).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    let names =
        reply.as_array().unwrap().iter().flat_map(|image| image["RepoTags"].as_array().unwrap().clone());
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn filters_choose_images_by_age_name_and_label() {
    let daemon = with_images(&[("old", 2001, b"1"), ("mid", 2011, b"2"), ("new", 2021, b"3")]).await;
    for (filters, expected) in [
        (json!({}), &["new:latest", "mid:latest", "old:latest"][..]),
        (json!({"before": ["new"]}), &["mid:latest", "old:latest"]),
        (json!({"since": ["old"], "before": ["new:latest"]}), &["mid:latest"]),
        (json!({"until": ["2011-06-01T00:00:00Z"]}), &["mid:latest", "old:latest"]),
        (json!({"reference": ["[mn]*"]}), &["new:latest", "mid:latest"]),
        (json!({"label": ["year=2001"]}), &["old:latest"]),
        (json!({"dangling": ["true"]}), &[]),
    ] {
        assert_eq!(listed(&daemon, &filters).await, expected, "{filters}");
    }
    let (status, reply) = daemon.get("/images/json?filters=%7B%22before%22%3A%5B%22nope%22%5D%7D").await;
    assert_eq!((status, &reply["message"]), (StatusCode::NOT_FOUND, &json!("No such image: nope:latest")));
}

#[tokio::test]
async fn a_tag_is_listed_and_only_the_names_that_fit_are_shown() {
    let daemon = with_images(&[("a", 2001, b"1")]).await;
    let (status, _) = daemon.ask(Method::POST, "/images/a/tag?repo=team/b&tag=2", None).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(listed(&daemon, &json!({"reference": ["team/*"]})).await, ["team/b:2"]);
    let (_, reply) = daemon.get("/images/team/b:2/json").await;
    assert_eq!(reply["RepoTags"], json!(["a:latest", "team/b:2"]));
}

#[tokio::test]
async fn history_gives_each_step_its_layers_size() {
    let daemon = with_images(&[("a", 2001, b"12345")]).await;
    let (_, reply) = daemon.get("/images/a/history").await;
    let sizes: Vec<_> = reply.as_array().unwrap().iter().map(|step| step["Size"].clone()).collect();
    assert_eq!(sizes, [json!(5), json!(0)]);
    assert_eq!((&reply[0]["Comment"], &reply[0]["Tags"]), (&json!("c"), &json!(["a:latest"])));
    assert_eq!(reply[1]["Id"], "<missing>");
}

#[tokio::test]
async fn prune_takes_what_has_no_name_and_with_dangling_false_the_rest() {
    // The second archive takes the first one's name.
    let daemon = with_images(&[("a", 2001, b"1"), ("a", 2011, b"2"), ("b", 2021, b"3")]).await;
    let (status, reply) = daemon.ask(Method::POST, "/images/prune", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(reply["ImagesDeleted"].as_array().unwrap().len(), 2, "an image and its layer: {reply}");
    assert!(reply["SpaceReclaimed"].as_u64().unwrap() > 0);
    let keep_2021 = "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%2C%22label%21%22%3A%5B%22year%3D2021%22%5D%7D";
    let (_, reply) = daemon.ask(Method::POST, keep_2021, None).await;
    assert_eq!(reply["ImagesDeleted"][0], json!({"Untagged": "a:latest"}));
    assert_eq!(listed(&daemon, &json!({})).await, ["b:latest"]);
    let nothing = json!({"ImagesDeleted": null, "SpaceReclaimed": 0});
    assert_eq!(daemon.ask(Method::POST, "/images/prune", None).await, (StatusCode::OK, nothing));
    let (_, reply) = daemon
        .get(
            "/events?until=0s&filters=%7B%22type%22%3A%5B%22image%22%5D%2C%22event%22%3A%5B%22untag%22%5D%7D",
        )
        .await;
    assert_eq!(reply["Type"], "image", "one untag is told");
}

#[tokio::test]
async fn df_counts_what_is_shared_once_and_answers_only_what_is_asked() {
    let daemon = with_images(&[("a", 2001, &[1; 10_000]), ("b", 2011, &[1; 10_000])]).await;
    let (status, reply) = daemon.get("/system/df").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(reply["LayersSize"], 10_000);
    assert_eq!(reply["Images"][0]["SharedSize"], 10_000);
    assert_eq!(reply["Images"][0]["Containers"], 0);
    let host = &reply["Berth"]["Images"][reply["Images"][0]["Id"].as_str().unwrap()];
    let (allocated, reclaimable) = (host["AllocatedBytes"].as_u64(), host["ReclaimableBytes"].as_u64());
    assert!(allocated >= Some(20_000) && reclaimable < allocated, "{host}");
    let (_, reply) = daemon.get("/system/df?type=volume&type=container").await;
    assert_eq!((&reply["Volumes"], &reply["Containers"]), (&json!([]), &json!([])));
    assert_eq!(reply.get("Images"), None);
    assert_eq!(daemon.get("/system/df?type=nope").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_was_saved_can_be_loaded_elsewhere() {
    let daemon = with_images(&[("a", 2001, b"1"), ("b", 2011, b"2")]).await;
    let request = |path: &str| axum::http::Request::get(path).body(Body::empty()).unwrap();
    let response = daemon.api.answer(request("/images/get?names=a&names=b")).await;
    assert_eq!(response.headers()["content-type"], "application/x-tar");
    let archive = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    let other = TestDaemon::start().await;
    let (status, progress) = send(&other, "/images/load?quiet=1", archive.clone()).await;
    assert_eq!(status, StatusCode::OK);
    let progress = String::from_utf8(progress).unwrap();
    assert!(
        progress.contains("Loaded image: a:latest") && progress.contains("Loaded image: b:latest"),
        "{progress}"
    );
    let one = daemon.api.answer(request("/images/a/get")).await;
    assert!(one.into_body().collect().await.unwrap().to_bytes().len() < archive.len());
    assert_eq!(daemon.get("/images/nope/get").await.0, StatusCode::NOT_FOUND);
    assert_eq!(daemon.get("/images/a/get?platform=linux%2Farm64").await.0, StatusCode::NOT_FOUND);
    assert_eq!(daemon.get("/images/get").await.0, StatusCode::BAD_REQUEST);
    let (_, image) = other.get("/images/a/json?platform=linux%2Famd64").await;
    let descriptor = &image["Descriptor"];
    assert_eq!(descriptor["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(image["RepoDigests"], json!([format!("a@{}", descriptor["digest"].as_str().unwrap())]));
    for path in ["/images/a/json?platform=linux%2Farm64", "/images/a/history?platform=linux%2Farm64"] {
        assert_eq!(other.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, _) = send(&other, "/images/load?platform=linux%2Farm64", archive).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "no image in it is for that platform");
}

#[tokio::test]
async fn an_imported_archive_is_an_image_with_its_changes() {
    let daemon = TestDaemon::start().await;
    let path = "/images/create?fromSrc=-&repo=mine&tag=1&message=from%20a%20test\
                &changes=CMD%20%2Fbin%2Fsh&changes=ENV%20A%3Db&platform=linux%2Farm64";
    let (status, progress) = send(&daemon, path, tar(&[("etc/name", b"value")])).await;
    assert_eq!(status, StatusCode::OK);
    let progress: Value = serde_json::from_slice(&progress).unwrap();
    let (_, image) = daemon.get("/images/mine:1/json").await;
    assert_eq!(image["Id"], progress["status"]);
    assert_eq!(image["Config"]["Cmd"], json!(["/bin/sh", "-c", "/bin/sh"]));
    assert_eq!((&image["Config"]["Env"], &image["Architecture"]), (&json!(["A=b"]), &json!("arm64")));
    assert_eq!((&image["Comment"], &image["Size"]), (&json!("from a test"), &json!(5)));
    for (path, body, expected) in [
        ("/images/create?fromSrc=-", b"no archive at all".to_vec(), StatusCode::BAD_REQUEST),
        ("/images/create?fromSrc=-&changes=RUN%20x", Vec::new(), StatusCode::BAD_REQUEST),
        ("/images/create?fromSrc=-&changes=STOPSIGNAL%20x", Vec::new(), StatusCode::BAD_REQUEST),
        ("/images/create?fromSrc=-&repo=UPPER", Vec::new(), StatusCode::BAD_REQUEST),
        ("/images/create?fromSrc=http%3A%2F%2Fx%2Fy.tar", Vec::new(), StatusCode::NOT_IMPLEMENTED),
    ] {
        assert_eq!(send(&daemon, path, body).await.0, expected, "{path}");
    }
    let (_, images) = daemon.get("/images/json").await;
    assert_eq!(images.as_array().unwrap().len(), 1, "what was refused left nothing");
}

#[tokio::test]
async fn a_commit_that_cannot_be_is_refused_in_dockers_words() {
    let daemon = with_images(&[("a", 2001, b"1")]).await;
    let (status, reply) =
        daemon.ask(Method::POST, "/containers/create?name=source", Some(json!({ "Image": "a" }))).await;
    assert_eq!(status, StatusCode::CREATED, "{reply}");
    for (query, body, expected, message) in [
        ("", Value::Null, 400, "invalid name or ID supplied: \"\""),
        ("container=nosuch", Value::Null, 404, "No such container: nosuch"),
        ("container=source&repo=UPPER", Value::Null, 400, "repository name (UPPER) must be lowercase"),
        ("container=source&repo=a&tag=b%20d", Value::Null, 400, "invalid"),
        ("container=source&repo=a%40sha256%3A", Value::Null, 400, "invalid"),
        ("container=source&changes=RUN%20x", Value::Null, 400, "RUN is not a valid change command"),
        (
            "container=source&changes=USER%20x&changes=HEALTHCHECK%20x",
            json!({}),
            400,
            "Unknown type \"X\" in HEALTHCHECK",
        ),
        ("container=source", json!({ "Env": "A=b" }), 400, "invalid JSON: "),
        ("container=source", json!([]), 400, "invalid JSON: "),
    ] {
        let path = format!("/commit?{query}");
        let (status, reply) = daemon.ask(Method::POST, &path, Some(body)).await;
        let said = reply["message"].as_str().unwrap_or_default();
        assert_eq!((status.as_u16(), said.contains(message)), (expected, true), "{query}: {reply}");
    }
    let (_, images) = daemon.get("/images/json?all=1").await;
    assert_eq!(images.as_array().unwrap().len(), 1);
    let (status, reply) = daemon.get("/containers/nosuch/changes").await;
    assert_eq!((status, &reply["message"]), (StatusCode::NOT_FOUND, &json!("No such container: nosuch")));
}

#[tokio::test]
async fn a_check_tells_what_it_looked_at_and_what_it_found() {
    let daemon = with_images(&[("a", 2001, b"1")]).await;
    let (status, progress) = send(&daemon, "/berth/check", Vec::new()).await;
    assert_eq!(status, StatusCode::OK);
    let progress = String::from_utf8(progress).unwrap();
    let lines: Vec<Value> = progress.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["status"] == "Checking layer"), "{progress}");
    let report = &lines.last().unwrap()["aux"];
    assert_eq!((&report["Checked"]["disk"], &report["Damages"]), (&json!(1), &json!([])));
}
