//! The verbs of images and of the daemon as a whole: what they ask for, what they print, how they exit.

use serde_json::json;

use crate::support::FakeDaemon;

#[test]
fn tag_names_repository_and_tag_apart() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /images/busybox/tag", 201, "");
    for verb in [&["tag"][..], &["image", "tag"]] {
        let said = daemon.berth(&[verb, &["busybox", "localhost:5000/team/box"]].concat());
        assert_eq!((said.status, said.stdout.as_str()), (Some(0), ""));
    }
    let expected = "POST /images/busybox/tag?repo=localhost%3A5000%2Fteam%2Fbox&tag=latest";
    assert_eq!(daemon.requests(), [expected, expected]);
    let said = daemon.berth(&["tag", "busybox", "a@sha256:00"]);
    assert_eq!(said.stderr, "refusing to create a tag with a digest reference\n");
}

#[test]
fn save_writes_the_file_whole_or_not_at_all() {
    let daemon = FakeDaemon::idle();
    daemon.answer("GET /images/get", 200, "the archive");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("images.tar");
    let file = path.to_str().unwrap();
    assert_eq!(daemon.berth(&["save", "-o", file, "a", "b:1"]).status, Some(0));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "the archive");
    assert_eq!(daemon.requests(), ["GET /images/get?names=a&names=b%3A1"]);
    assert_eq!(daemon.berth(&["image", "save", "a"]).stdout, "the archive");
    daemon.answer("GET /images/get", 404, &json!({"message": "No such image: c:latest"}).to_string());
    let said = daemon.berth(&["save", "-o", file, "c"]);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(1), "Error response from daemon: No such image: c:latest\n")
    );
    let names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["images.tar"], "nothing unfinished is left");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "the archive");
}

#[test]
fn import_sends_the_file_and_its_changes() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /images/create", 200, &json!({"status": "sha256:c0ffee"}).to_string());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root.tar");
    std::fs::write(&path, "archive").unwrap();
    let file = path.to_str().unwrap();
    let said = daemon.berth(&["import", "-c", "CMD sh", "-c", "ENV A=b", "-m", "why", file, "mine:1"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "sha256:c0ffee\n"));
    let expected =
        "POST /images/create?fromSrc=-&repo=mine&tag=1&message=why&changes=CMD%20sh&changes=ENV%20A%3Db";
    assert_eq!(daemon.requests(), [expected]);
    let said = daemon.berth(&["import", "http://example/x.tar"]);
    assert!(said.stderr.contains("importing from a URL is not supported"), "{}", said.stderr);
}

#[test]
fn commit_sends_what_the_image_is_to_be() {
    let daemon = FakeDaemon::idle();
    daemon.answer("POST /commit", 201, &json!({"Id": "sha256:c0ffee"}).to_string());
    let said = daemon.berth(&["commit", "web"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), "sha256:c0ffee\n"));
    let changes = ["-c", "CMD sh", "-c", "ENV A=b"];
    let named = ["-p=false", "-a", "me", "-m", "why", "web", "localhost:5000/web"];
    daemon.berth(&[&["container", "commit"][..], &changes, &named].concat());
    assert_eq!(
        daemon.requests(),
        [
            "POST /commit?container=web&pause=1",
            "POST /commit?container=web&repo=localhost%3A5000%2Fweb&tag=latest&author=me&comment=why&pause=0\
             &changes=CMD%20sh&changes=ENV%20A%3Db",
        ]
    );
    let said = daemon.berth(&["commit", "web", "a@sha256:00"]);
    assert_eq!(said.stderr, "refusing to create a tag with a digest reference\n");
}

#[test]
fn diff_prints_a_letter_and_a_path_for_each_change() {
    let daemon = FakeDaemon::idle();
    let changes =
        json!([{"Path": "/etc", "Kind": 0}, {"Path": "/new", "Kind": 1}, {"Path": "/gone", "Kind": 2}]);
    daemon.answer("GET /containers/web/changes", 200, &changes.to_string());
    assert_eq!(daemon.berth(&["diff", "web"]).stdout, "C /etc\nA /new\nD /gone\n");
    let json = daemon.berth(&["container", "diff", "--format", "json", "web"]).stdout;
    assert!(json.starts_with("{\"Path\":\"/etc\",\"Type\":\"C\"}\n"), "{json}");
    daemon.answer("GET /containers/web/changes", 200, "null");
    let said = daemon.berth(&["diff", "web"]);
    assert_eq!((said.status, said.stdout.as_str()), (Some(0), ""));
}

#[test]
fn history_is_a_table_that_can_be_told_exactly() {
    let daemon = FakeDaemon::idle();
    let step = "RUN a very long instruction that nobody wants to read to its end";
    let history = json!([
        {"Id": format!("sha256:{}", "a".repeat(64)), "Created": 0, "CreatedBy": step, "Size": 1500, "Comment": "c"},
        {"Id": "<missing>", "Created": 0, "CreatedBy": "COPY x", "Size": 0, "Comment": ""},
    ]);
    daemon.answer("GET /images/a/history", 200, &history.to_string());
    let table = daemon.berth(&["history", "a"]).stdout;
    assert!(table.starts_with("IMAGE          CREATED   CREATED BY"), "{table}");
    assert!(table.contains("RUN a very long instruction that nobody want…   1.5kB     c"), "{table}");
    let exact = daemon.berth(&[
        "history",
        "--no-trunc",
        "--human=false",
        "--format",
        "{{.CreatedBy}} {{.Size}}",
        "a",
    ]);
    assert_eq!(exact.stdout, format!("{step} 1500\nCOPY x 0\n"));
    assert_eq!(daemon.berth(&["image", "history", "-q", "a"]).stdout, "aaaaaaaaaaaa\n<missing>\n");
}

#[test]
fn prune_asks_first_and_tells_what_went() {
    let daemon = FakeDaemon::idle();
    let pruned =
        json!({"ImagesDeleted": [{"Untagged": "a:1"}, {"Deleted": "sha256:00"}], "SpaceReclaimed": 2000});
    daemon.answer("POST /images/prune", 200, &pruned.to_string());
    let said = daemon.berth(&["image", "prune"]);
    assert_eq!(said.status, Some(1), "silence is no consent");
    assert!(said.stdout.starts_with("WARNING! This will remove all dangling images.\n"), "{}", said.stdout);
    assert_eq!(daemon.requests(), [] as [&str; 0]);
    let said = daemon.berth(&["image", "prune", "-af", "--filter", "label!=keep"]);
    assert_eq!(
        said.stdout,
        "Deleted Images:\nuntagged: a:1\ndeleted: sha256:00\n\nTotal reclaimed space: 2kB\n"
    );
    assert_eq!(
        daemon.requests(),
        [
            "POST /images/prune?filters=%7B%22dangling%22%3A%7B%22false%22%3Atrue%7D%2C%22label%21%22%3A%7B%22keep%22%3Atrue%7D%7D"
        ]
    );
}

#[test]
fn df_sums_up_and_tells_each() {
    let daemon = FakeDaemon::idle();
    let id = format!("sha256:{}", "b".repeat(64));
    let mut host = json!({"ImagesAllocatedBytes": 5000, "ContainersWrittenBytes": 70, "Images": {}});
    host["Images"][&id] = json!({"AllocatedBytes": 4000});
    let usage = json!({
        "LayersSize": 1000,
        "Images": [{"Id": id, "RepoTags": ["a:1"], "Size": 1000, "SharedSize": 0, "Containers": 0}],
        "Containers": [{"Id": "c0ffee", "Names": ["/web"], "Image": "a:1", "SizeRw": 70, "State": "exited"}],
        "Volumes": [], "BuildCache": [], "Berth": host,
    });
    daemon.answer("GET /system/df", 200, &usage.to_string());
    let table = daemon.berth(&["system", "df"]).stdout;
    assert!(table.contains("Images          1         0         1kB       1kB (100%)"), "{table}");
    assert!(table.contains("Build Cache     0         0         0B        0B\n"), "{table}");
    let details = daemon.berth(&["system", "df", "-v"]).stdout;
    assert!(details.contains("ON DISK") && details.contains("4kB"), "{details}");
    assert!(details.ends_with("On the host's disk: images 5kB, containers 70B\n"), "{details}");
}

#[test]
fn check_exits_by_what_is_left_damaged() {
    let daemon = FakeDaemon::idle();
    let answer = |damages: serde_json::Value| {
        let report = json!({"aux": {"Checked": {"layer": 2, "disk": 1}, "Damages": damages}});
        format!("{}\r\n{report}\r\n", json!({"status": "Checking layer", "id": "00"}))
    };
    let damage = |repaired: bool| {
        json!({"Part": "layer", "Digest": "sha256:00", "Problem": "its data has a wrong checksum",
               "Images": ["a:1"], "Repaired": repaired})
    };
    daemon.answer("POST /berth/check", 200, &answer(json!([])));
    let said = daemon.berth(&["system", "check"]);
    assert_eq!(
        (said.status, said.stdout.as_str()),
        (Some(0), "Checked: 1 disk, 2 layers\nDamaged: 0   Repaired: 0\n")
    );
    daemon.answer("POST /berth/check", 200, &answer(json!([damage(false)])));
    let said = daemon.berth(&["system", "check", "-q"]);
    assert_eq!(said.status, Some(1));
    assert!(
        said.stdout.contains("layer     sha256:00   a:1       damaged   its data has a wrong checksum"),
        "{}",
        said.stdout
    );
    daemon.answer("POST /berth/check", 200, &answer(json!([damage(true)])));
    assert_eq!(daemon.berth(&["system", "check", "--repair"]).status, Some(0));
    assert!(daemon.requests().contains(&"POST /berth/check?repair=1".to_owned()));
}

#[test]
fn the_groups_verbs_are_the_verbs() {
    let daemon = FakeDaemon::idle();
    daemon.answer("GET /images/json", 200, "[]");
    daemon.answer("DELETE /images/a", 200, &json!([{"Untagged": "a:latest"}]).to_string());
    daemon.answer("GET /images/a/json", 200, &json!({"Id": "sha256:00"}).to_string());
    let table = daemon.berth(&["images"]).stdout;
    assert_eq!(daemon.berth(&["image", "ls"]).stdout, table);
    assert_eq!(daemon.berth(&["image", "list"]).stdout, table);
    assert_eq!(daemon.berth(&["image", "rm", "a"]).stdout, "Untagged: a:latest\n");
    assert_eq!(daemon.berth(&["image", "inspect", "-f", "{{.Id}}", "a"]).stdout, "sha256:00\n");
}
