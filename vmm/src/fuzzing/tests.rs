//! Replays every target's corpus, in which each finding of a fuzzer stays.

use std::path::{Path, PathBuf};

use super::{TARGETS, Target};

fn corpus(name: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{} has no corpus: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn replay(name: &str, target: Target) {
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "{name} has an empty corpus");
    for path in inputs {
        let input = std::fs::read(&path).unwrap();
        // The output of a test that fails ends with the input that it failed for.
        println!("{}", path.display());
        target(&input);
    }
}

/// A test for each target, so that they run side by side; that none was forgotten is a test, too.
macro_rules! replays {
    ($($name:ident)*) => {
        mod replays {
            $(
                #[test]
                fn $name() {
                    super::replay(stringify!($name), super::super::target(stringify!($name)));
                }
            )*
        }

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

replays!(balloon block console control fs gateway kernel kvm_statistics machine_json mmio net rng snapshot vsock);

#[test]
fn every_target_is_replayed() {
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(targets, REPLAYED);
}

#[test]
fn nothing_at_all_is_an_input_too() {
    for (_, target) in TARGETS {
        target(&[]);
    }
}
