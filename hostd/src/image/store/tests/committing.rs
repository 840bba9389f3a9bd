//! A layer that somebody wrote becomes an image on top of another one.

use super::archives::*;
use super::*;
use crate::image::record::ImageConfig;

fn spec(host: &Host, parent: &str) -> CommitSpec {
    CommitSpec {
        parent: host.store().resolve(parent).unwrap().id,
        name: Some(Reference::parse("committed").unwrap()),
        config: ImageConfig { user: "nobody".to_owned(), ..ImageConfig::default() },
        author: "somebody".to_owned(),
        comment: "for a test".to_owned(),
        created_by: "sh -c true".to_owned(),
    }
}

fn spool(host: &Host, archive: &[u8]) -> LayerSpool {
    let mut spool = host.store().spool_layer().unwrap();
    // Pieces end anywhere.
    archive.chunks(777).for_each(|piece| spool.write(piece).unwrap());
    spool
}

fn commit(host: &Host, parent: &str, archive: &[u8]) -> Result<Image, CommitError> {
    let id = host.store().commit(spool(host, archive), &spec(host, parent))?;
    Ok(host.store().resolve(&id.to_string()).unwrap())
}

#[test]
fn a_layer_becomes_an_image_on_top_of_its_parent() {
    let mut host = Host::new();
    let (base, own) = (layer("base", &[b'b'; 8192]), layer("own", &[b'o'; 12288]));
    host.load(&docker_save("parent", &[&base]).bytes()).unwrap();
    let image = commit(&host, "parent", &own).unwrap();
    assert_eq!(image.layers, [Digest::of(&base), Digest::of(&own)]);
    assert_eq!(image.names, ["committed:latest"]);
    assert_eq!((image.config.user.as_str(), image.author.as_str()), ("nobody", "somebody"));
    assert_eq!((image.architecture.as_str(), image.os.as_str()), ("amd64", "linux"));
    let step = image.history.last().unwrap();
    assert_eq!((step.created_by.as_str(), step.comment.as_str()), ("sh -c true", "for a test"));
    assert!(!step.empty_layer && step.created == image.created && image.created.is_some());
    assert_eq!(image.size_bytes, 20_480);

    let blobs = host.store().blobs_of(&image.id).unwrap();
    let blob = fs::read(&blobs[1].path).unwrap();
    assert_eq!((Digest::of(&blob), blob.len() as u64), (blobs[1].digest, blobs[1].size_bytes));
    assert_eq!(blob[..2], [0x1f, 0x8b], "as it travels");
    assert!(blob.len() < own.len() / 2);

    host.remove("parent", false).unwrap();
    host.restart();
    assert!(host.disk_contains("committed", &[b'b'; 8192]), "it keeps the layers of a parent that went");
    assert!(host.disk_contains("committed", &[b'o'; 12288]));
    let report = host.store().check(false, &mut |_, _| {}).unwrap();
    assert!(report.damages.is_empty(), "{report:?}");
    host.remove("committed", false).unwrap();
    assert!(host.store().list().unwrap().is_empty());
}

#[test]
fn nothing_changed_is_a_step_without_a_layer() {
    let host = Host::new();
    let base = layer("base", b"x");
    host.load(&docker_save("parent", &[&base]).bytes()).unwrap();
    let image = commit(&host, "parent", &[0; 1024]).unwrap();
    assert_eq!(image.layers, [Digest::of(&base)]);
    assert!(image.history.last().unwrap().empty_layer);
    assert!(host.disk_contains("committed", b"x"));
}

#[test]
fn the_same_layer_twice_is_kept_once() {
    let host = Host::new();
    host.load(&docker_save("parent", &[&layer("base", b"x")]).bytes()).unwrap();
    let own = layer("own", &[7; 9000]);
    let first = commit(&host, "parent", &own).unwrap();
    let second = commit(&host, "parent", &own).unwrap();
    let blobs = |image: &Image| host.store().blobs_of(&image.id).unwrap();
    assert_eq!(blobs(&first), blobs(&second));
    assert!(first.id == second.id || host.store().resolve(&first.id.to_string()).unwrap().names.is_empty());
    let deep = commit(&host, "committed", &layer("more", b"y")).unwrap();
    assert_eq!(deep.layers.len(), 3);
}

#[test]
fn what_does_not_succeed_leaves_nothing() {
    let host = Host::new();
    host.load(&docker_save("parent", &[&layer("base", b"x")]).bytes()).unwrap();
    let before = host.files();
    let escaping = Tar::new().file("../out", b"x").bytes();
    let error = commit(&host, "parent", &escaping).unwrap_err();
    assert!(matches!(error, CommitError::Layer(_)), "{error:?}");
    drop(spool(&host, &layer("own", b"given up")));
    let mut unknown = spec(&host, "parent");
    unknown.parent = ImageId(Digest::of(b"unknown"));
    let error = host.store().commit(spool(&host, &layer("own", b"x")), &unknown).unwrap_err();
    assert_eq!(error.to_string(), format!("No such image: {}", unknown.parent));
    assert_eq!(host.files(), before);
}
