//! What is damaged is found, named with the image that it belongs to, and made again where that is possible.

use std::os::unix::fs::FileExt;

use super::archives::*;
use super::*;

fn check(host: &Host, repair: bool) -> CheckReport {
    host.store().check(repair, &mut |_, _| {}).unwrap()
}

fn found(report: &CheckReport) -> Vec<(Part, bool)> {
    report.damages.iter().map(|damage| (damage.part, damage.repaired)).collect()
}

/// Changes one byte in the middle.
fn damage(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[!byte[0]], middle).unwrap();
}

fn loaded() -> (Host, Digest) {
    let host = Host::new();
    let plain = layer("f", &[7; 100_000]);
    let mut oci = Oci::new();
    let image = oci.image(&[(&plain, gzip(&plain))]);
    let named = with(
        image,
        &serde_json::json!({"annotations": {"io.containerd.image.name": "docker.io/library/a:1"}}),
    );
    host.load(&oci.list(named).archive().bytes()).unwrap();
    (host, Digest::of(&plain))
}

#[test]
fn a_sound_store_has_no_damage_and_a_check_changes_nothing() {
    let (host, _) = loaded();
    let before = host.files();
    let report = check(&host, true);
    assert_eq!(report.damages, []);
    let one_of_each = [Part::Manifest, Part::Configuration, Part::Blob, Part::Layer, Part::Disk];
    assert_eq!(report.checked, one_of_each.into_iter().map(|part| (part, 1)).collect());
    assert_eq!(host.files(), before);
}

#[test]
fn a_damaged_layer_is_made_again_from_its_blob() {
    for file in ["data", "index"] {
        let (host, diff_id) = loaded();
        let path = host.images().join(format!("layers/sha256-{}", diff_id.hex())).join(file);
        let sound = fs::read(&path).unwrap();
        damage(&path);
        let report = check(&host, false);
        assert!(found(&report).contains(&(Part::Layer, false)), "{file}: {report:?}");
        assert_eq!(report.damages[0].images, ["a:1"]);
        assert_ne!(fs::read(&path).unwrap(), sound, "only looked at");
        assert!(found(&check(&host, true)).contains(&(Part::Layer, true)), "{file}");
        assert!(fs::read(&path).unwrap() == sound, "{file}");
        assert_eq!(check(&host, false).damages, []);
    }
}

#[test]
fn a_damaged_disk_is_made_again_from_its_layers() {
    let (host, _) = loaded();
    let path = fs::read_dir(host.images().join("disks")).unwrap().next().unwrap().unwrap().path();
    damage(&path);
    assert_eq!(found(&check(&host, false)), [(Part::Disk, false)]);
    assert_eq!(found(&check(&host, true)), [(Part::Disk, true)]);
    fs::remove_file(&path).unwrap();
    assert_eq!(check(&host, true).damages, [], "a missing one is built when it is needed");
    assert!(path.exists());
    assert_eq!(check(&host, false).damages, []);
}

#[test]
fn a_damaged_blob_is_put_away_and_loading_again_brings_it_back() {
    let (host, _) = loaded();
    let archive = {
        let mut bytes = Vec::new();
        host.store().prepare_save(&["a:1".to_owned()], None).unwrap().write(&mut bytes).unwrap();
        bytes
    };
    let path = fs::read_dir(host.images().join("blobs/sha256")).unwrap().next().unwrap().unwrap().path();
    damage(&path);
    let report = check(&host, false);
    assert!(report.damages[0].problem.starts_with("its digest is sha256:"), "{report:?}");
    assert_eq!(found(&check(&host, true)), [(Part::Blob, true)]);
    assert!(!path.exists(), "nobody can be sent it any more");
    assert_eq!(found(&check(&host, true)), [(Part::Blob, false)], "it is still missing");
    host.load(&archive).unwrap();
    assert_eq!(check(&host, false).damages, []);
}

#[test]
fn damaged_rows_are_told() {
    let (host, _) = loaded();
    host.store().shared.database.with(|tx| tx.execute("UPDATE manifests SET content = x'7b7d'", ())).unwrap();
    host.store().shared.database.with(|tx| tx.execute("UPDATE images SET config = x'7b7d'", ())).unwrap();
    // An image whose configuration cannot be read is told too, instead of ending the check.
    assert_eq!(found(&check(&host, true)), [(Part::Manifest, false), (Part::Configuration, false)]);
}
