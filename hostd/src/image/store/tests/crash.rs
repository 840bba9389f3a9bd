//! A process that loads, pulls, commits and removes without end is killed at any moment: the store always opens, and whatever it then
//! lists is whole.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::archives::*;
use super::arriving::Remote;
use super::*;

const ROOT: &str = "BERTH_TEST_CRASH_ROOT";
const VICTIM: &str = "image::store::tests::crash::victim";
const ROUNDS: u64 = 12;

/// Whole blocks, which lie together on the disk.
fn content(number: u8) -> Vec<u8> {
    vec![b'a' + number; 17 * 4096]
}

/// Runs in a process of its own, until it is killed.
#[test]
#[ignore = "the other test runs it in a process of its own"]
fn victim() {
    let root = PathBuf::from(std::env::var_os(ROOT).expect("the other test sets it"));
    let database = Database::open(&root.join("berth.db")).unwrap();
    let store = ImageStore::open(&root.join("image"), database).unwrap();
    for round in 0_u64.. {
        let number = u8::try_from(round % 5).unwrap();
        let layers = [layer("shared", &content(9)), layer("own", &content(number))];
        let name = format!("i:{number}");
        if round % 2 == 0 {
            let archive = docker_save(&name, &[&layers[0], &layers[1]]).bytes();
            store.load(&archive[..], &mut |_| {}).unwrap();
        } else {
            let travelling = layers.map(|plain| {
                let blob = gzip(&plain);
                (plain, blob)
            });
            Remote::new(&travelling).pull(&store, &name);
        }
        if round % 4 == 1 {
            let mut spool = store.spool_layer().unwrap();
            spool.write(&layer("committed", &content(8))).unwrap();
            let spec = CommitSpec {
                parent: store.resolve(&name).unwrap().id,
                name: Some(Reference::parse(&format!("c:{number}")).unwrap()),
                config: crate::image::ImageConfig::default(),
                author: String::new(),
                comment: String::new(),
                created_by: String::new(),
            };
            store.commit(spool, &spec).unwrap();
        }
        if round % 3 == 2 {
            store.remove(&format!("i:{number}"), false, |_| ImageUsers::default()).unwrap();
        }
    }
}

#[test]
fn a_store_that_was_killed_at_any_moment_opens_and_is_whole() {
    let mut host = Host::new();
    for round in 0..ROUNDS {
        host.store = None;
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([VICTIM, "--exact", "--ignored"])
            .env(ROOT, host.root.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 37 * round));
        assert!(victim.try_wait().unwrap().is_none(), "it must still be at work when it is killed");
        victim.kill().unwrap();
        victim.wait().unwrap();
        host.restart();
        for image in host.store().list().unwrap() {
            // One that was committed and is committed again loses its name.
            let shown = image.names.first().cloned().unwrap_or_else(|| image.id.to_string());
            if image.layers.len() == 3 {
                assert!(host.disk_contains(&shown, &content(8)));
                assert!(host.disk_contains(&shown, &content(9)));
                continue;
            }
            let number = shown.strip_prefix("i:").unwrap().parse::<u8>().unwrap();
            assert!(host.disk_contains(&image.names[0], &content(number)));
            assert!(host.disk_contains(&image.names[0], &content(9)));
        }
        let staged = fs::read_dir(host.images().join("tmp")).unwrap().count();
        assert_eq!(staged, 0);
    }
    assert!(!host.store().list().unwrap().is_empty(), "at least one load was faster than its killer");
}
