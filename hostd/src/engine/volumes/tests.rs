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

/// Whether this host lets the test mount what is in a file; says why not.
fn can_mount() -> bool {
    let possible = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !possible {
        println!("skipped: volumes of a size: only root mounts, and loop devices are needed");
    }
    possible
}

/// The loop devices of that file.
fn loop_devices(file: &Path) -> Vec<String> {
    let Ok(devices) = fs::read_dir("/sys/block") else { return Vec::new() };
    let backing = |entry: fs::DirEntry| {
        let behind = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        (Path::new(behind.trim()) == file).then(|| entry.file_name().into_string().unwrap())
    };
    devices.flatten().filter_map(backing).collect()
}

fn entry(mounted: &MountedVolume, name: &str) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/{name}", mounted.root().as_raw_fd()))
}

#[tokio::test]
async fn a_volume_of_a_size_is_full_when_it_is_and_is_one_for_all_who_have_it() {
    if !can_mount() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let volumes = recovered(root.path()).await;
    let holder = ContainerId::random();
    let options = [("size".to_owned(), "16m".to_owned())].into();
    volumes.ensure(VolumeRequest { options, ..named("data") }, &holder).await.unwrap();
    let disk = root.path().canonicalize().unwrap().join("volumes/data/disk.ext4");
    let one = volumes.mount("data").await.unwrap();
    assert_eq!(fs::read_dir(entry(&one, "")).unwrap().count(), 0, "nothing of the file system's own is seen");
    let full = fs::write(entry(&one, "large"), vec![1; 17 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    fs::write(entry(&one, "large"), "small").unwrap();
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!table.contains(root.path().to_str().unwrap()), "no mount of it on the host");
    // Another machine, and one of a daemon that knows nothing of the first.
    let two = volumes.mount("data").await.unwrap();
    assert_eq!(fs::read_to_string(entry(&two, "large")).unwrap(), "small");
    volumes.find("data").unwrap().file_system.lock().unwrap().clone_from(&Weak::new());
    let three = volumes.mount("data").await.unwrap();
    fs::write(entry(&three, "new"), "seen").unwrap();
    assert_eq!(fs::read_to_string(entry(&one, "new")).unwrap(), "seen");
    assert_eq!(loop_devices(&disk).len(), 1);
    drop((one, two, three));
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !loop_devices(&disk).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the loop device goes with the last mount");
    let again = volumes.mount("data").await.unwrap();
    assert_eq!(fs::read_to_string(entry(&again, "new")).unwrap(), "seen");
}

#[tokio::test]
async fn memory_is_one_for_all_who_have_it_and_gone_with_the_last() {
    if !can_mount() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let volumes = recovered(root.path()).await;
    let holder = ContainerId::random();
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,mode=700,uid=5")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    volumes.ensure(VolumeRequest { options, ..named("data") }, &holder).await.unwrap();
    let (one, two) = (volumes.mount("data").await.unwrap(), volumes.mount("data").await.unwrap());
    let found = fs::metadata(entry(&one, ".")).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::uid(&found), found.permissions().readonly()), (5, false));
    fs::write(entry(&one, "file"), "both").unwrap();
    assert_eq!(fs::read_to_string(entry(&two, "file")).unwrap(), "both");
    let full = fs::write(entry(&one, "large"), vec![1; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    drop((one, two));
    let anew = volumes.mount("data").await.unwrap();
    assert_eq!(fs::read_dir(entry(&anew, "")).unwrap().count(), 0);
    drop(anew);
    // A machine of an earlier daemon's has it: nobody else can be given the same.
    let adopted = volumes.adopt("data");
    let refused = volumes.mount("data").await.unwrap_err();
    assert!(refused.message.contains("that an earlier daemon started"), "{refused}");
    drop(adopted);
    volumes.mount("data").await.unwrap();
}

/// An image whose `data` has one file, in a store of its own.
fn image(root: &Path) -> (crate::image::ImageStore, crate::image::ImageId) {
    let tar = |files: &[(&str, &[u8])]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    };
    let layer = tar(&[("data/file", b"the image's")]);
    let id = crate::image::Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{id}"]}}}}"#
    );
    let manifest = br#"[{"Config":"config.json","RepoTags":["one:latest"],"Layers":["layer.tar"]}]"#;
    let archive =
        tar(&[("config.json", config.as_bytes()), ("layer.tar", &layer), ("manifest.json", manifest)]);
    let database = Database::open(&root.join("images.db")).unwrap();
    let store = crate::image::ImageStore::open(&root.join("image"), database).unwrap();
    store.load(archive.as_slice(), &mut |_| {}).unwrap();
    let id = store.resolve("one").unwrap().id;
    (store, id)
}

#[tokio::test]
async fn an_empty_volume_is_filled_once_and_goes_on_where_a_daemon_died() {
    let root = tempfile::tempdir().unwrap();
    let (images, id) = image(root.path());
    let holder = ContainerId::random();
    let file = {
        let volumes = recovered(root.path()).await;
        let data = volumes.ensure(named("data"), &holder).await.unwrap();
        let file = data.mountpoint.join("file");
        volumes.fill(&images, "data", id, "/nothing", None).await.unwrap();
        assert!(!file.exists());
        volumes.fill(&images, "data", id, "/data", None).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "the image's");
        fs::write(&file, "somebody's").unwrap();
        volumes.fill(&images, "data", id, "/data", None).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "somebody's");
        assert_eq!(volumes.records().unwrap()[0].content, Content::Whole);
        // A daemon that died in the midst of it.
        volumes.records.put(&Volume { content: Content::Begun, ..data.volume.clone() }).await.unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(data.mountpoint.join("other"), "there already").unwrap();
        file
    };
    let volumes = recovered(root.path()).await;
    volumes.fill(&images, "data", id, "data", None).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "the image's");
    assert_eq!(volumes.records().unwrap()[0].content, Content::Whole);
}

#[tokio::test]
async fn a_volume_that_cannot_be_made_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let volumes = recovered(root.path()).await;
    // In the way of the disk.
    fs::create_dir_all(root.path().join("volumes/data/disk.unfinished/x")).unwrap();
    let options = [("size".to_owned(), "16m".to_owned())].into();
    let request = VolumeRequest { options, ..named("data") };
    let error = volumes.ensure(request.clone(), &ContainerId::random()).await.unwrap_err();
    assert!(error.message.starts_with("cannot make volume data: "), "{error}");
    assert!(volumes.records().unwrap().is_empty() && names(&volumes).is_empty());
    assert!(!root.path().join("volumes/data/_data").exists(), "it would be a volume at the next start");
    fs::remove_dir_all(root.path().join("volumes/data")).unwrap();
    volumes.ensure(request, &ContainerId::random()).await.unwrap();
}
