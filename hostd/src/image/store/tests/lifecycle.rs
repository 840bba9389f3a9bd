//! Names come and go, images with them; crashes in between are repaired.

use super::archives::*;
use super::*;

fn removed(host: &Host, reference: &str) -> Vec<Removed> {
    host.remove(reference, false).unwrap()
}

#[test]
fn an_image_is_found_by_every_way_of_naming_it() {
    let host = Host::new();
    host.load(&docker_save("busybox:latest", &[&layer("f", b"x")]).bytes()).unwrap();
    let id = host.store().resolve("busybox").unwrap().id;
    for reference in [
        "busybox:latest",
        "docker.io/library/busybox",
        &id.to_string(),
        &id.0.hex(),
        &id.short(),
        &format!("sha256:{}", id.short()),
    ] {
        assert_eq!(host.store().resolve(reference).unwrap().id, id, "{reference}");
    }
    for (reference, message) in [
        ("nosuch", "No such image: nosuch:latest"),
        ("busybox:1", "No such image: busybox:1"),
        (&"0".repeat(64), &format!("No such image: {}", "0".repeat(64))),
        ("BusyBox", "invalid reference format: repository name (BusyBox) must be lowercase"),
    ] {
        assert_eq!(host.store().resolve(reference).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_beginning_that_fits_two_ids_is_ambiguous() {
    let host = Host::new();
    // Seventeen ids: two of them begin with the same digit.
    for number in 0..17 {
        host.load(&docker_save(&format!("i:{number}"), &[&layer("n", &[number])]).bytes()).unwrap();
    }
    let ids: Vec<_> = host.store().list().unwrap().iter().map(|image| image.id.0.hex()).collect();
    let shared = ids.iter().find(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1).unwrap();
    assert!(matches!(host.store().resolve(&shared[..1]), Err(ResolveError::Ambiguous { .. })));
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let host = Host::new();
    let empty = host.files();
    let layers = [layer("f", b"x")];
    host.load(&docker_save("a", &[&layers[0]]).bytes()).unwrap();
    host.load(&docker_save("b", &[&layers[0]]).bytes()).unwrap();
    let id = host.store().resolve("a").unwrap().id;
    assert_eq!(removed(&host, "a"), [Removed::Untagged("a:latest".into())]);
    assert_eq!(host.store().resolve("b").unwrap().names, ["b:latest"]);
    let expected = [
        Removed::Untagged("b:latest".into()),
        Removed::Deleted(id.0),
        Removed::Deleted(Digest::of(&layers[0])),
    ];
    assert_eq!(removed(&host, "b"), expected);
    assert_eq!(host.files(), empty);
    assert!(host.store().list().unwrap().is_empty());
}

#[test]
fn by_id_several_names_go_only_by_force() {
    let host = Host::new();
    for name in ["a", "b"] {
        host.load(&docker_save(name, &[&layer("f", b"x")]).bytes()).unwrap();
    }
    let id = host.store().resolve("a").unwrap().id.short();
    let error = host.remove(&id, false).unwrap_err().to_string();
    let expected = format!(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
    );
    assert_eq!(error, expected);
    let removed = host.remove(&id, true).unwrap();
    assert_eq!(removed[..2], [Removed::Untagged("a:latest".into()), Removed::Untagged("b:latest".into())]);
    assert!(host.store().list().unwrap().is_empty());
}

#[test]
fn a_shared_layer_stays_for_who_else_has_it() {
    let host = Host::new();
    let base = layer("base", b"shared content");
    host.load(&docker_save("a", &[&base, &layer("a", b"a")]).bytes()).unwrap();
    host.load(&docker_save("b", &[&base, &layer("b", b"b")]).bytes()).unwrap();
    let removed = removed(&host, "a");
    assert!(!removed.contains(&Removed::Deleted(Digest::of(&base))), "{removed:?}");
    assert!(host.disk_contains("b", b"shared content"));
}

#[test]
fn a_name_moves_to_the_image_that_was_loaded_last() {
    let host = Host::new();
    host.load(&docker_save("a", &[&layer("f", b"old")]).bytes()).unwrap();
    let old = host.store().resolve("a").unwrap().id;
    host.load(&docker_save("a", &[&layer("f", b"new")]).bytes()).unwrap();
    assert!(host.disk_contains("a", b"new"));
    assert_eq!(host.store().resolve(&old.to_string()).unwrap().names, [] as [&str; 0]);
}

#[test]
fn an_image_says_when_it_was_last_given_a_name() {
    let mut host = Host::new();
    let begun = jiff::Timestamp::now();
    host.load(&docker_save("a", &[&layer("f", b"bytes")]).bytes()).unwrap();
    let loaded = host.store().resolve("a").unwrap().tagged_at.expect("it has a name");
    assert!(loaded >= begun);
    host.store().tag("a", "b").unwrap();
    host.restart();
    let tagged = host.store().resolve("a").unwrap().tagged_at.expect("it has two");
    assert!(tagged > loaded && tagged <= jiff::Timestamp::now());
}

#[test]
fn a_restart_keeps_what_was_loaded_and_clears_what_was_not() {
    let mut host = Host::new();
    host.load(&docker_save("a", &[&layer("f", b"kept")]).bytes()).unwrap();
    let before = host.files();
    // What crashes leave: a load in the middle of its work, and one between its renames and its transaction.
    let images = host.images();
    let hex = Digest::of(b"unknown").hex();
    fs::create_dir_all(images.join("tmp/.tmpXYZ/spool")).unwrap();
    fs::write(images.join("tmp/.tmpXYZ/spool/1"), b"half").unwrap();
    fs::create_dir(images.join(format!("layers/sha256-{hex}"))).unwrap();
    fs::write(images.join(format!("layers/sha256-{hex}/data")), b"data").unwrap();
    fs::write(images.join(format!("blobs/sha256/{hex}")), b"blob").unwrap();
    fs::write(images.join(format!("disks/sha256-{hex}.v1.erofs")), b"disk").unwrap();
    host.restart();
    assert_eq!(host.files(), before);
    assert!(host.disk_contains("a", b"kept"));
}

#[test]
fn a_disk_that_is_missing_is_built_again() {
    let host = Host::new();
    host.load(&docker_save("a", &[&layer("f", b"content")]).bytes()).unwrap();
    let id = host.store().resolve("a").unwrap().id;
    let path = host.store().disk(&id).unwrap().extents[0].path.clone();
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(host.disk_contains("a", b"content"));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let gone = ImageId(Digest::of(b"gone"));
    assert!(matches!(host.store().disk(&gone), Err(DiskError::NoSuchImage(id)) if id == gone));
}

#[test]
fn loading_again_heals_a_layer_whose_files_are_gone() {
    let host = Host::new();
    let archive = docker_save("a", &[&layer("f", b"content")]).bytes();
    host.load(&archive).unwrap();
    fs::remove_dir_all(host.images().join("layers")).unwrap();
    fs::create_dir(host.images().join("layers")).unwrap();
    assert!(host.store().disk(&host.store().resolve("a").unwrap().id).is_err());
    host.load(&archive).unwrap();
    assert!(host.disk_contains("a", b"content"));
}

fn used(host: &Host, reference: &str, force: bool, running: bool) -> Result<Vec<Removed>, String> {
    let user = || Some("c0ffee".to_owned());
    let users = |_: &ImageId| match running {
        true => ImageUsers { running: user(), stopped: None },
        false => ImageUsers { running: None, stopped: user() },
    };
    host.store().remove(reference, force, users).map_or_else(|error| Err(error.to_string()), |r| Ok(r.steps))
}

#[test]
fn an_image_that_is_used_keeps_its_last_name_unless_forced() {
    let host = Host::new();
    for name in ["a", "b"] {
        host.load(&docker_save(name, &[&layer("f", b"x")]).bytes()).unwrap();
    }
    let id = host.store().resolve("a").unwrap().id;
    let untagged = |name: &str| Ok(vec![Removed::Untagged(name.to_owned())]);
    assert_eq!(used(&host, "a", false, true), untagged("a:latest"), "one of two names may go");
    let refused = format!(
        "conflict: unable to remove repository reference \"b\" (must force) - container c0ffee is using its \
         referenced image {}",
        id.short()
    );
    for running in [true, false] {
        assert_eq!(used(&host, "b", false, running), Err(refused.clone()));
    }
    assert_eq!(used(&host, "b", true, true), untagged("b:latest"));
    assert_eq!(host.store().resolve(&id.to_string()).unwrap().names, [] as [&str; 0], "it is still there");
}

#[test]
fn by_id_what_runs_stays_and_what_is_stopped_loses_its_names_by_force() {
    let host = Host::new();
    host.load(&docker_save("a", &[&layer("f", b"x")]).bytes()).unwrap();
    let id = host.store().resolve("a").unwrap().id.short();
    let conflict = |how: &str, user: &str| {
        Err(format!(
            "conflict: unable to delete {id} ({how}) - image is being used by {user} container c0ffee"
        ))
    };
    for force in [false, true] {
        assert_eq!(used(&host, &id, force, true), conflict("cannot be forced", "running"));
    }
    assert_eq!(used(&host, &id, false, false), conflict("must be forced", "stopped"));
    assert_eq!(used(&host, &id, true, false), Ok(vec![Removed::Untagged("a:latest".to_owned())]));
    assert_eq!(used(&host, &id, true, false), conflict("cannot be forced", "stopped"));
    assert!(host.disk_contains(&id, b"x"), "its user can start again");
}

#[test]
fn a_removal_says_what_the_host_got_back() {
    let host = Host::new();
    host.load(&docker_save("a", &[&layer("f", &[7; 1 << 20])]).bytes()).unwrap();
    let removal = host.store().remove("a", false, |_| ImageUsers::default()).unwrap();
    // The layer as it came and as it is used; index and disk are small.
    assert!((2 << 20..3 << 20).contains(&removal.reclaimed_bytes), "{}", removal.reclaimed_bytes);
}

#[test]
fn a_tag_is_one_more_name() {
    let host = Host::new();
    host.load(&docker_save("a", &[&layer("f", b"x")]).bytes()).unwrap();
    let id = host.store().resolve("a").unwrap().id;
    let (image, name) = host.store().tag("a", "team/b:1").unwrap();
    assert_eq!((image.id, name.familiar().as_str()), (id, "team/b:1"));
    assert_eq!(image.names, ["a:latest", "team/b:1"]);
    host.store().tag(&id.short(), "c").unwrap();
    assert_eq!(host.store().resolve("c").unwrap().id, id);
    let digest = format!("b@{}", Digest::of(b"x"));
    for (source, target, message) in [
        ("nosuch", "b", "No such image: nosuch:latest"),
        ("a", "B", "invalid reference format: repository name (B) must be lowercase"),
        ("a", digest.as_str(), "refusing to create a tag with a digest reference"),
        ("a", "sha256:1", "refusing to create an ambiguous tag using digest algorithm as name"),
    ] {
        assert_eq!(host.store().tag(source, target).unwrap_err().to_string(), message);
    }
}
