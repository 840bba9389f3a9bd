//! Volumes over several lives of a daemon, without any machine.

use std::fs;

use super::super::error::ErrorKind;
use super::*;

fn open(root: &Path) -> Arc<Volumes> {
    let database = Database::open(&root.join("berth.db")).unwrap();
    Arc::new(Volumes::new(root, Events::default(), database))
}

/// A daemon that starts on what another one left.
async fn recovered(root: &Path) -> Arc<Volumes> {
    let volumes = open(root);
    volumes.recover(volumes.records().unwrap()).await.unwrap();
    volumes
}

fn named(name: &str) -> VolumeRequest {
    VolumeRequest { name: Some(name.to_owned()), ..VolumeRequest::default() }
}

fn names(volumes: &Volumes) -> Vec<String> {
    volumes.active().keys().map(VolumeName::to_string).collect()
}

#[tokio::test]
async fn a_volume_is_there_until_its_last_holder_is_gone_and_somebody_removes_it() {
    let root = tempfile::tempdir().unwrap();
    let volumes = recovered(root.path()).await;
    let (one, two) = (ContainerId::random(), ContainerId::random());
    let made = volumes.ensure(named("data"), &one).await.unwrap();
    let again = volumes.ensure(named("data"), &two).await.unwrap();
    assert!(Arc::ptr_eq(&made, &again));
    fs::write(made.mountpoint.join("file"), "kept").unwrap();
    let refused = volumes.remove("data").await.unwrap_err();
    let mut ids = [one.as_str(), two.as_str()];
    ids.sort_unstable();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert_eq!(refused.message, format!("remove data: volume is in use - [{}]", ids.join(", ")));
    volumes.release("data", &one);
    volumes.release("data", &two);
    volumes.remove("data").await.unwrap();
    assert_eq!(fs::read_dir(root.path().join("volumes")).unwrap().count(), 0);
    assert_eq!(volumes.remove("data").await.unwrap_err().message, "get data: no such volume");
    assert!(volumes.records().unwrap().is_empty());
}

#[tokio::test]
async fn volumes_outlive_the_daemon_and_are_held_again() {
    let root = tempfile::tempdir().unwrap();
    let holder = ContainerId::random();
    let name = {
        let volumes = recovered(root.path()).await;
        let made = volumes.ensure(VolumeRequest::default(), &holder).await.unwrap();
        assert!(made.volume.is_anonymous());
        fs::write(made.mountpoint.join("file"), "kept").unwrap();
        made.volume.name.to_string()
    };
    assert_eq!(name.len(), 64);
    let volumes = recovered(root.path()).await;
    assert!(volumes.refer(&name, &holder) && !volumes.refer("another", &holder));
    assert_eq!(volumes.remove(&name).await.unwrap_err().kind, ErrorKind::Conflict);
    let found = volumes.find(&name).unwrap();
    assert!(found.volume.is_anonymous());
    let file = volumes.mountpoint(&name).unwrap().join("file");
    assert_eq!(fs::read_to_string(file).unwrap(), "kept");
}

#[tokio::test]
async fn a_daemon_that_dies_between_two_steps_leaves_nothing_half_done() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("volumes");
    {
        let volumes = recovered(root.path()).await;
        for name in ["recorded", "forgotten"] {
            let made = volumes.ensure(named(name), &ContainerId::random()).await.unwrap();
            fs::write(made.mountpoint.join("file"), name).unwrap();
        }
        // A creation that got to its record, a removal that got to its record, and one that got to its directory.
        fs::remove_dir_all(directory.join("recorded")).unwrap();
        volumes.records.delete("forgotten").await.unwrap();
        fs::create_dir_all(directory.join(".removed-0123/_data/a/b")).unwrap();
        // What is not of ours stays what it is.
        fs::create_dir(directory.join("foreign")).unwrap();
    }
    let volumes = recovered(root.path()).await;
    assert_eq!(names(&volumes), ["forgotten", "recorded"]);
    assert_eq!(fs::read_dir(directory.join("recorded/_data")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(directory.join("forgotten/_data/file")).unwrap(), "forgotten");
    assert_eq!(volumes.records().unwrap().len(), 2);
    assert!(directory.join("foreign").exists());
    let gone = || !directory.join(".removed-0123").exists();
    tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while !gone() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what was being removed is removed at the next start");
}

#[tokio::test]
async fn a_removal_that_the_host_refuses_leaves_the_volume() {
    let root = tempfile::tempdir().unwrap();
    let volumes = recovered(root.path()).await;
    let holder = ContainerId::random();
    let made = volumes.ensure(named("data"), &holder).await.unwrap();
    volumes.release("data", &holder);
    fs::rename(made.mountpoint.parent().unwrap(), root.path().join("elsewhere")).unwrap();
    let error = volumes.remove("data").await.unwrap_err();
    assert!(error.message.starts_with("cannot remove volume data: "), "{error}");
    assert_eq!((names(&volumes).len(), volumes.records().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn a_bind_under_a_name_is_what_is_there_when_it_is_used() {
    let root = tempfile::tempdir().unwrap();
    let volumes = recovered(root.path()).await;
    let holder = ContainerId::random();
    let device = root.path().join("later");
    let options = [("type", "none"), ("o", "bind,ro"), ("device", device.to_str().unwrap())];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    volumes.ensure(VolumeRequest { options, ..named("data") }, &holder).await.unwrap();
    let error = volumes.mount("data").await.unwrap_err();
    assert!(error.message.contains("failed to mount local volume: mount "), "{error}");
    fs::create_dir(&device).unwrap();
    let mounted = volumes.mount("data").await.unwrap();
    assert!(mounted.is_read_only() && mounted.source().is_ok());
    volumes.release("data", &holder);
    volumes.remove("data").await.unwrap();
    assert!(device.exists());
}
