//! Tests that make links and rules do it in a network namespace of their own.

use nix::sched::{CloneFlags, unshare};

/// Runs `story` in a fresh network namespace, on a runtime of one thread; says so where that takes root.
pub(super) fn in_a_network_namespace(test: &str, story: impl AsyncFnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: {test}: a network namespace takes root");
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root may have a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(story());
        });
    });
}
