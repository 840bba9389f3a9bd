//! Loads, saves, tags, removals, prunes and checks at the same time: nobody ever finds half of anything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::archives::*;
use super::*;

const DURATION: Duration = Duration::from_millis(1500);
const IMAGES: u8 = 4;

/// Images that share a layer, so that each removal of one touches what the others need.
fn archive(number: u8) -> Vec<u8> {
    let (shared, own) = (layer("shared", &[9; 60_000]), layer("own", &[number; 40_000]));
    docker_save(&format!("i:{number}"), &[&shared, &own]).bytes()
}

fn load_and_use(host: &Host, number: u8, uses: &AtomicUsize) {
    host.load(&archive(number)).unwrap();
    // It may be removed at any time; whoever got hold of it has all of it.
    let Ok(image) = host.store().resolve(&format!("i:{number}")) else { return };
    if let Ok(disk) = host.store().disk(&image.id) {
        uses.fetch_add(usize::from(disk.total_bytes > 0), Ordering::Relaxed);
    }
}

fn save(host: &Host, number: u8, uses: &AtomicUsize) {
    if let Ok(saving) = host.store().prepare_save(&[format!("i:{number}")], None) {
        let mut bytes = Vec::new();
        saving.write(&mut bytes).unwrap();
        uses.fetch_add(1, Ordering::Relaxed);
    }
}

fn remove(host: &Host, number: u8) {
    match host.remove(&format!("i:{number}"), true) {
        Ok(_) | Err(RemoveError::Resolve(ResolveError::NotFound { .. })) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn collecting_garbage_never_races_who_uses_the_store() {
    let host = Host::new();
    let (uses, end) = (AtomicUsize::new(0), Instant::now() + DURATION);
    let until_the_end = |work: &dyn Fn(u8)| {
        let numbers = (0..IMAGES).cycle().take_while(|_| Instant::now() < end);
        numbers.for_each(work);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| until_the_end(&|number| load_and_use(&host, number, &uses)));
        scope.spawn(|| until_the_end(&|number| load_and_use(&host, IMAGES - 1 - number, &uses)));
        scope.spawn(|| until_the_end(&|number| save(&host, number, &uses)));
        scope.spawn(|| until_the_end(&|number| remove(&host, number)));
        scope.spawn(|| {
            until_the_end(&|_| {
                let report = host.store().check(false, &mut |_, _| {}).unwrap();
                assert_eq!(report.damages, []);
            });
        });
    });
    assert!(uses.load(Ordering::Relaxed) > 0, "somebody got to use something");
    for number in 0..IMAGES {
        remove(&host, number);
    }
    assert_eq!(host.files(), Host::new().files(), "and nothing is left");
}
