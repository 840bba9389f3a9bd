//! Watches of a machine that is none: what it would say, and what it would hear of the host's changes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::super::ShareAccess;
use super::super::tests::{Bench, bench};
use super::record::{CLOSE_WRITE, CREATE, DELETE, MODIFY, MOVED_FROM, MOVED_TO, ONDIR};
use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

fn said(id: u64, path: &str, at: &Path) -> ShareWatch {
    let inode = fs::symlink_metadata(at).unwrap().ino();
    ShareWatch { id, begun: true, share: "tree".into(), path: path.into(), inode }
}

/// A share "tree" of that directory, and its watcher.
async fn watched(test: &str, host: &Path) -> Option<(Bench, ShareWatcher)> {
    let bench = bench(test).await?;
    bench.add("tree", host, ShareAccess::ReadWrite).await.unwrap();
    let watcher = bench.shares.watcher().unwrap();
    Some((bench, watcher))
}

/// What the watcher hears up to a file of the name "end" in what watch 1 is on, without what happens to that.
async fn heard(watcher: &mut ShareWatcher, directory: &Path) -> Vec<(u64, u64, String)> {
    fs::create_dir(directory.join("end")).unwrap();
    let mut all = Vec::new();
    loop {
        let changes = tokio::time::timeout(DEADLINE, watcher.changes()).await.expect("the end").unwrap();
        for change in changes {
            let name = String::from_utf8(change.name).unwrap();
            if name == "end" {
                fs::remove_dir(directory.join("end")).unwrap();
                return all;
            }
            all.push((change.watch_id, u64::from(change.events), name));
        }
    }
}

#[tokio::test]
async fn what_the_host_does_is_told_by_name() {
    let host = tempfile::tempdir().unwrap();
    let path = |name: &str| host.path().join(name);
    fs::create_dir(path("below")).unwrap();
    let test = "what_the_host_does_is_told_by_name";
    let Some((_bench, mut watcher)) = watched(test, host.path()).await else { return };
    let both = vec![said(1, "", host.path()), said(2, "below", &path("below"))];
    watcher.apply(both).await.unwrap();

    fs::write(path("new"), "text").unwrap();
    fs::rename(path("new"), path("below/old")).unwrap();
    fs::remove_file(path("below/old")).unwrap();
    fs::create_dir(path("below/more")).unwrap();
    let heard: Vec<_> = heard(&mut watcher, host.path()).await;
    let expected = [
        (1, CREATE, "new"),
        (1, MODIFY, "new"),
        (1, CLOSE_WRITE, "new"),
        (1, MOVED_FROM, "new"),
        (2, MOVED_TO, "old"),
        (2, DELETE, "old"),
        (2, CREATE | ONDIR, "more"),
    ];
    // Two events of one file may change places in the kernel's queue, where equal ones are one.
    let expected: BTreeSet<_> = expected.map(|(id, events, name)| (id, events, name.to_owned())).into();
    let heard: BTreeSet<_> = heard.into_iter().collect();
    let missing: Vec<_> = expected.difference(&heard).collect();
    assert!(missing.is_empty(), "{missing:?} of {heard:?}");
}

#[tokio::test]
async fn nothing_is_heard_of_what_is_watched_no_longer() {
    let host = tempfile::tempdir().unwrap();
    let below = host.path().join("below");
    fs::create_dir(&below).unwrap();
    let test = "nothing_is_heard_of_what_is_watched_no_longer";
    let Some((_bench, mut watcher)) = watched(test, host.path()).await else { return };
    watcher.apply(vec![said(1, "", host.path()), said(2, "below", &below)]).await.unwrap();
    watcher.apply(vec![ShareWatch { id: 2, ..ShareWatch::default() }]).await.unwrap();
    fs::write(below.join("file"), "text").unwrap();
    assert_eq!(heard(&mut watcher, host.path()).await, []);
}

#[tokio::test]
async fn a_machine_can_watch_nothing_but_its_shares() {
    let host = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::create_dir(&secret).unwrap();
    std::os::unix::fs::symlink(&secret, host.path().join("link")).unwrap();
    fs::create_dir(host.path().join("other")).unwrap();
    let test = "a_machine_can_watch_nothing_but_its_shares";
    let Some((_bench, mut watcher)) = watched(test, host.path()).await else { return };
    let climbing = format!("../../../../../..{}", secret.display());
    let tries = vec![
        said(1, "", host.path()),
        said(2, "link", &secret),
        said(3, &climbing, &secret),
        said(4, secret.to_str().unwrap(), &secret),
        // What has its name now is not what it means.
        said(5, "other", &secret),
        ShareWatch { share: "../../..".into(), ..said(6, "", &secret) },
        ShareWatch { share: String::new(), ..said(7, "", &secret) },
    ];
    watcher.apply(tries).await.unwrap();
    fs::write(secret.join("file"), "text").unwrap();
    fs::write(host.path().join("other/file"), "text").unwrap();
    assert_eq!(heard(&mut watcher, host.path()).await, []);
}
