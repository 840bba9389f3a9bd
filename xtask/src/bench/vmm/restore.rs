//! A machine that goes on from a snapshot, until its guest's first byte: goal 7.
//!
//! The guest writes all the time, so its first byte behind the snapshot is its first instruction or two.

use std::time::Instant;

use serde_json::json;

use super::super::figures::Figures;
use super::monitor::{Host, Restore};
use crate::progress;

const MEMORY_MIB: [u32; 2] = [128, 1024];

/// Of one size of memory.
pub(super) struct Restored {
    pub(super) memory_mib: u32,
    /// From spawning the monitor, which loads the snapshot and goes on.
    pub(super) whole: Figures,
    /// From the request to resume, of a machine that was loaded before.
    pub(super) resume: Figures,
}

pub(super) fn measure(host: &Host, runs: u32) -> anyhow::Result<Vec<Restored>> {
    MEMORY_MIB.into_iter().map(|memory_mib| one_size(host, memory_mib, runs)).collect()
}

fn one_size(host: &Host, memory_mib: u32, runs: u32) -> anyhow::Result<Restored> {
    progress::heading(format_args!("{runs} restores of {memory_mib} MiB"));
    let snapshot = host.directory.join(format!("snapshot{memory_mib}"));
    let saved = host.prepare_talker(memory_mib, None)?.start()?;
    saved.ask(&json!({ "request": "save_snapshot", "directory": snapshot }))?;
    drop(saved);
    let mut restored = Restored { memory_mib, whole: Figures::default(), resume: Figures::default() };
    for _ in 0..runs {
        let at_once = Restore { snapshot: &snapshot, paused: false };
        let machine = host.prepare_talker(memory_mib, Some(at_once))?.start()?;
        restored.whole.add(machine.first_byte_after);
        drop(machine);
        let paused = Restore { snapshot: &snapshot, paused: true };
        let (machine, console) = host.prepare_talker(memory_mib, Some(paused))?.spawn()?;
        machine.ask(&json!({ "request": "status" }))?;
        let begun = Instant::now();
        machine.ask(&json!({ "request": "resume" }))?;
        console.wait()?;
        restored.resume.add(begun.elapsed());
    }
    Ok(restored)
}
