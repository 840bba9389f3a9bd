//! The block device on its own queue, beside fio on the same file: goal 19.
//!
//! Both read through the page cache, as the product does: image disks are shared between machines there.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::drivers::Drivers;
use crate::workspace::Workspace;
use crate::{program, progress};

/// Where the drivers find the file that fio reads too.
const FILE_VARIABLE: &str = "BERTH_BENCH_FILE";
const FILE_BYTES: u64 = 1 << 30;
const READ_BYTES: u32 = 4096;
/// Requests under way, and how many are made in one run: a second or two each.
const DEPTHS: [(u32, u32); 2] = [(1, 10_000), (32, 60_000)];
/// Ours and fio, A B B A.
const BLOCKS: [Reader; 4] = [Reader::Ours, Reader::Fio, Reader::Fio, Reader::Ours];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Ours,
    Fio,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// Nothing of the file is in the page cache at the beginning, and no page is read twice.
    Cold,
    /// All of it is.
    Warm,
}

/// Reads a second.
pub(super) struct Reads {
    pub(super) depth: u32,
    pub(super) cache: Cache,
    pub(super) ours: f64,
    /// `None` without fio.
    pub(super) fio: Option<f64>,
}

pub(super) fn measure(drivers: &Drivers, workspace: &Workspace) -> anyhow::Result<Vec<Reads>> {
    progress::heading("the block device on a synthetic queue");
    // Below target/, which lies on a disk; a temporary directory may not.
    let path = workspace.target("bench-disk");
    write_file(&path)?;
    let reads = measure_reads(drivers, &path);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    reads
}

fn measure_reads(drivers: &Drivers, path: &Path) -> anyhow::Result<Vec<Reads>> {
    let has_fio = Command::new("fio").arg("--version").output().is_ok();
    if !has_fio {
        progress::note("no fio: reads are measured without a peer");
    }
    let mut reads = Vec::new();
    for cache in [Cache::Cold, Cache::Warm] {
        for (depth, count) in DEPTHS {
            let (mut ours, mut fio) = (0.0, 0.0);
            for reader in BLOCKS {
                match reader {
                    Reader::Ours => ours += read_ours(drivers, path, depth, count, cache)? / 2.0,
                    Reader::Fio if has_fio => fio += read_fio(path, depth, count, cache)? / 2.0,
                    Reader::Fio => {}
                }
            }
            reads.push(Reads { depth, cache, ours, fio: has_fio.then_some(fio) });
        }
    }
    Ok(reads)
}

/// Of bytes that are really there, on disk and no longer in memory.
fn write_file(path: &Path) -> anyhow::Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let chunk: Vec<u8> = (0..CHUNK_BYTES).map(|index| (index % 251).to_le_bytes()[0]).collect();
    for _ in 0..FILE_BYTES / CHUNK_BYTES as u64 {
        file.write_all(&chunk).with_context(|| format!("cannot write {}", path.display()))?;
    }
    file.sync_all()?;
    Ok(())
}

fn prepare_cache(path: &Path, cache: Cache) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    match cache {
        Cache::Cold => rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?,
        Cache::Warm => drop(std::io::copy(&mut file, &mut std::io::sink())?),
    }
    Ok(())
}

fn read_ours(drivers: &Drivers, path: &Path, depth: u32, count: u32, cache: Cache) -> anyhow::Result<f64> {
    prepare_cache(path, cache)?;
    let variables = [
        (FILE_VARIABLE, path.display().to_string()),
        ("BERTH_BENCH_DEPTH", depth.to_string()),
        ("BERTH_BENCH_READS", count.to_string()),
    ];
    drivers.run("block_reads", &variables)
}

fn read_fio(path: &Path, depth: u32, count: u32, cache: Cache) -> anyhow::Result<f64> {
    prepare_cache(path, cache)?;
    let mut fio = Command::new("fio");
    fio.args(["--name=reads", "--rw=randread", "--ioengine=io_uring", "--direct=0", "--invalidate=0"]);
    fio.args(["--fadvise_hint=0", "--output-format=json", "--randrepeat=0"]);
    fio.arg(format!("--filename={}", path.display())).arg(format!("--bs={READ_BYTES}"));
    fio.arg(format!("--iodepth={depth}")).arg(format!("--size={FILE_BYTES}"));
    fio.arg(format!("--io_size={}", u64::from(count) * u64::from(READ_BYTES)));
    let report: serde_json::Value = serde_json::from_str(&program::output(&mut fio)?)?;
    report["jobs"][0]["read"]["iops"].as_f64().context("fio reports no reads")
}
