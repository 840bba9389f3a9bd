//! The verbs of volumes: what they ask for, what they print, how they exit.

use serde_json::json;

use crate::support::FakeDaemon;

#[test]
fn volumes_are_listed_by_name() {
    let daemon = FakeDaemon::idle();
    let volume = |name: &str| json!({ "Name": name, "Driver": "local", "Scope": "local", "Mountpoint": "/m", "Labels": null });
    let listed = json!({ "Volumes": [volume("web"), volume("data")], "Warnings": null });
    daemon.answer("GET /volumes", 200, &listed.to_string());
    let said = daemon.berth(&["volume", "ls", "--filter", "dangling=true"]);
    assert_eq!(said.stdout, "DRIVER    VOLUME NAME\nlocal     data\nlocal     web\n", "{}", said.stderr);
    assert_eq!(daemon.requests(), ["GET /volumes?filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%7D"]);
    assert_eq!(daemon.berth(&["volume", "ls", "-q"]).stdout, "data\nweb\n");
    let said = daemon.berth(&["volume", "ls", "--format", "{{.Name}} {{.Mountpoint}}"]);
    assert_eq!(said.stdout, "data /m\nweb /m\n");
}

#[test]
fn a_volume_is_made_looked_at_and_removed() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /volumes/create", 201, &json!({ "Name": "data" }).to_string());
    let said = daemon.berth(&["volume", "create", "--label", "a=1", "-o", "size=1g", "data"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "data\n"), "{}", said.stderr);
    let said = daemon.berth(&["volume", "create", "--opt", "size", "data"]);
    assert!(said.stderr.contains("invalid argument \"size\" for --opt"), "{}", said.stderr);
    daemon.answer("GET /volumes/data", 200, &json!({ "Name": "data", "Driver": "local" }).to_string());
    let said = daemon.berth(&["volume", "inspect", "-f", "{{.Name}} {{.Driver}}", "data"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "data local\n"));
    for path in ["containers/data/json", "images/data/json", "networks/data"] {
        daemon.answer(&format!("GET /{path}"), 404, &json!({ "message": "no" }).to_string());
    }
    assert_eq!(daemon.berth(&["inspect", "-f", "{{.Driver}}", "data"]).stdout, "local\n");
    daemon.answer("DELETE /volumes/data", 204, "");
    assert_eq!(daemon.berth(&["volume", "rm", "data"]).stdout, "data\n");
    let in_use = json!({ "message": "remove web: volume is in use - [c0ffee]" });
    daemon.answer("DELETE /volumes/web", 409, &in_use.to_string());
    let said = daemon.berth(&["volume", "rm", "web"]);
    assert!(said.status == Some(1) && said.stderr.contains("volume is in use - [c0ffee]"), "{}", said.stderr);
}

#[test]
fn a_prune_asks_for_all_only_if_told_so() {
    let daemon = FakeDaemon::idle();
    let pruned = json!({ "VolumesDeleted": ["old"], "SpaceReclaimed": 2000 });
    daemon.answer("POST /volumes/prune", 200, &pruned.to_string());
    let said = daemon.berth(&["volume", "prune", "-f"]);
    assert_eq!(said.stdout, "Deleted Volumes:\nold\n\nTotal reclaimed space: 2kB\n");
    daemon.berth(&["volume", "prune", "-af"]);
    let all = "POST /volumes/prune?filters=%7B%22all%22%3A%7B%22true%22%3Atrue%7D%7D";
    assert_eq!(daemon.requests(), ["POST /volumes/prune", all]);
}
