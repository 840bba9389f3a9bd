//! The page's section: what was measured, beside the peers of the same run and Firecracker's published figures.

use std::fmt::Write;

use super::super::report::{Section, as_mib_from_kib, conditions};
use super::Measured;
use super::agent::{self, Boot};
use super::block::{Cache, Reads};
use super::cost::{Costs, SystemCalls};
use super::end;
use super::rate;
use super::restore::Restored;
use super::start::{self, Pair};
use super::touch::Touched;
use super::vsock;
use crate::workspace::Workspace;

/// Measured on a host of this kind with the same method, in another run: see PERFORMANCE figures of the project.
mod firecracker {
    pub(super) const STUB: &str = "8.4";
    pub(super) const KERNEL: &str = "16.8";
    pub(super) const SYSTEM_CALLS: &str = "212, without devices";
    pub(super) const PROPORTIONAL_MB: &str = "2.6";
    pub(super) const RESTORE: &str = "6.5 at least, load and resume";
    pub(super) const PRIVATE_DIRTY_MB: &str = "0.33";
}

pub(super) fn write(workspace: &Workspace, measured: &Measured) -> anyhow::Result<()> {
    let Measured { start, boot, cost, rate, end, restore, touch, block, vsock } = measured;
    let mut text = conditions(&format!("{} runs of each", start.runs));
    starts(&mut text, start);
    if let Some(boot) = boot {
        whole_boot(&mut text, boot);
    }
    costs(&mut text, &cost.ours, cost.peer.as_ref());
    rates(&mut text, rate);
    ends(&mut text, end);
    restores(&mut text, restore);
    touches(&mut text, touch);
    reads(&mut text, block);
    streams(&mut text, vsock);
    Section::named("vmm").write(workspace, &text)
}

fn line(text: &mut String, words: impl std::fmt::Display) {
    writeln!(text, "{words}").expect("a String takes all");
}

fn starts(text: &mut String, start: &start::Measured) {
    line(
        text,
        "\n| spawn to the guest's first byte, ms | berth-vmm, min / p50 / p90 | QEMU microvm | ratio of p50 | Firecracker, another run |",
    );
    line(text, "|---|---|---|---|---|");
    let mut row = |name: &str, pair: &Pair, firecracker: &str| {
        let (ours, peer) = (pair.ours.summary_to(2), pair.peer.summary_to(2));
        line(text, format_args!("| {name} | {ours} | {peer} | {} | {firecracker} |", ratio(pair)));
    };
    row("a stub of 12 bytes, 256 MiB", &start.stub, firecracker::STUB);
    row("the stub inside the product's kernel: loaded, not executed", &start.large_stub, firecracker::KERNEL);
    row("the product's kernel, first byte of its early console", &start.kernel, "-");
}

fn whole_boot(text: &mut String, boot: &Boot) {
    let memory_mib = agent::MEMORY_MIB;
    let seconds = boot.duration.as_secs_f64();
    let counted = match boot.emulated_instructions {
        Some(count) => format!("KVM itself executed {}.{} million", count / 1_000_000, count / 100_000 % 10),
        None => "this KVM does not count the".to_owned(),
    };
    line(
        text,
        format_args!(
            "\nThe product's kernel and agent, {memory_mib} MiB, one processor, from spawning until the agent serves, one \
             run: {seconds:.2} s; {counted} guest instructions."
        ),
    );
}

fn ratio(pair: &Pair) -> String {
    match (pair.ours.percentile(50), pair.peer.percentile(50)) {
        (Some(ours), Some(peer)) => format!("{:.2}", ours / peer),
        _ => "-".to_owned(),
    }
}

fn costs(text: &mut String, ours: &Costs, peer: Option<&Costs>) {
    line(text, "\n| cost of a running monitor | berth-vmm | QEMU microvm | Firecracker, another run |");
    line(text, "|---|---|---|---|");
    let mut row = |name: &str, of: &dyn Fn(&Costs) -> String, firecracker: &str| {
        let peer = peer.map_or_else(|| "-".to_owned(), of);
        line(text, format_args!("| {name} | {} | {peer} | {firecracker} |", of(ours)));
    };
    let calls = |costs: &Costs, of: fn(&SystemCalls) -> usize| {
        costs.system_calls.as_ref().map_or_else(|| "-".to_owned(), |calls| of(calls).to_string())
    };
    let leading = |costs: &Costs| calls(costs, |calls| calls.leading_there);
    row("system calls that lead from exec to the first KVM_RUN", &leading, firecracker::SYSTEM_CALLS);
    let all = |costs: &Costs| calls(costs, |calls| calls.all);
    row("– with those that other threads make meanwhile, under strace", &all, "-");
    let proportional = |costs: &Costs| format!("{:.2} MiB", as_mib_from_kib(costs.memory.proportional_kib));
    row("PSS beyond guest memory", &proportional, firecracker::PROPORTIONAL_MB);
    let dirty = |costs: &Costs| format!("{:.2} MiB", as_mib_from_kib(costs.memory.private_dirty_kib));
    row("private dirty memory beyond the guest's", &dirty, firecracker::PRIVATE_DIRTY_MB);
}

fn rates(text: &mut String, rate: &rate::Measured) {
    let peer = rate.peer.map_or_else(|| "not there".to_owned(), |rate| format!("{rate:.0}"));
    line(
        text,
        format_args!(
            "\nMachines started, heard and destroyed per second, {} at a time: berth-vmm {:.0}, QEMU microvm {peer}.",
            rate.starters, rate.ours
        ),
    );
}

fn ends(text: &mut String, end: &end::Measured) {
    line(text, "\n| after the request to shut down, ms | min / p50 / p90 |");
    line(text, "|---|---|");
    let rows =
        [("its reply", &end.reply), ("`exit.json`", &end.exit_file), ("the process is gone", &end.process)];
    for (name, figures) in rows {
        line(text, format_args!("| {name} | {} |", figures.summary_to(2)));
    }
}

fn restores(text: &mut String, restored: &[Restored]) {
    line(
        text,
        "\n| from a snapshot to the guest's first byte, ms | min / p50 / p90 | Firecracker, another run |",
    );
    line(text, "|---|---|---|");
    for Restored { memory_mib, whole, resume } in restored {
        let firecracker = firecracker::RESTORE;
        line(text, format_args!("| {memory_mib} MiB, from spawning | {} | - |", whole.summary_to(2)));
        let resume = resume.summary_to(2);
        line(
            text,
            format_args!(
                "| {memory_mib} MiB, loaded before: from the request to resume | {resume} | {firecracker} |"
            ),
        );
    }
}

fn touches(text: &mut String, touched: &[Touched]) {
    line(text, "\n| 64 MiB written to after a restore: its price, ms | page by page | working set | ratio |");
    line(text, "|---|---|---|---|");
    for Touched { places, page_by_page_ms, working_set_ms } in touched {
        let ratio = working_set_ms / page_by_page_ms;
        line(text, format_args!("| {places} | {page_by_page_ms:.1} | {working_set_ms:.1} | {ratio:.2} |"));
    }
}

fn reads(text: &mut String, reads: &[Reads]) {
    line(
        text,
        "\n| random reads of 4 KiB a second, through the page cache | block device | fio, io_uring | ratio |",
    );
    line(text, "|---|---|---|---|");
    for Reads { depth, cache, ours, fio } in reads {
        let cache = match cache {
            Cache::Cold => "from disk",
            Cache::Warm => "cached",
        };
        let (peer, ratio) = match fio {
            Some(fio) => (format!("{fio:.0}"), format!("{:.2}", ours / fio)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        line(text, format_args!("| {cache}, depth {depth} | {ours:.0} | {peer} | {ratio} |"));
    }
}

fn streams(text: &mut String, vsock: &vsock::Measured) {
    let calls =
        vsock.system_calls_per_mib.map_or_else(|| "not counted".to_owned(), |calls| format!("{calls:.1}"));
    line(
        text,
        format_args!(
            "\nvsock, packets of 64 KiB to the host: {:.2} GB per CPU-second of the device's thread, {calls} system calls \
             per MiB. A plain unix socket, written to in the same pieces: {:.2} GB per CPU-second.",
            vsock.gigabytes_per_cpu_second, vsock.plain_gigabytes_per_cpu_second
        ),
    );
}
