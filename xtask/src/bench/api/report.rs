//! The tables, for the page and for programs.

use std::fmt::Write;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::super::figures::Figures;
use super::super::report::{Section, conditions};
use super::pair::Pair;
use super::quick::LISTED;
use super::side::{Side, Who};
use super::{Measured, execs, lives, memory, output, quick};
use crate::workspace::Workspace;

/// What of a result goes to standard output; the page is written in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Nothing: the table is shown like everything else.
    Table,
    Json,
}

/// What a row's numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    PerSecond,
    MegabytesPerSecond,
    Mebibytes,
}

struct Row {
    what: String,
    unit: Unit,
    pair: Pair,
    /// What the ratio, or our own number, is to be.
    goal: &'static str,
}

struct Table {
    what: &'static str,
    rows: Vec<Row>,
}

pub(super) fn write(
    workspace: &Workspace,
    rounds: u32,
    sides: &[Side],
    measured: Measured,
    format: Format,
) -> anyhow::Result<()> {
    let accelerator = sides.iter().find_map(|side| side.accelerator.as_deref()).unwrap_or("unknown");
    let conditions = conditions(&format!("{rounds} rounds, accelerator `{accelerator}`"));
    let peer = sides.iter().find(|side| side.who == Who::Peer);
    let peer = peer.map_or_else(
        || "dockerd (none answered in this run)".to_owned(),
        |peer| format!("dockerd {}", peer.version),
    );
    let tables = tables(measured);
    if format == Format::Json {
        let tables: Vec<Value> = tables.iter().map(Table::json).collect();
        println!("{:#}", json!({ "conditions": conditions.trim_end(), "peer": peer, "tables": tables }));
    }
    let mut text = conditions;
    tables.iter().for_each(|table| table.render(&peer, &mut text));
    Section::named("api").write(workspace, &text)
}

fn tables(measured: Measured) -> [Table; 5] {
    let Measured { memory, quick, lives, execs, output } = measured;
    [
        Table { what: "a call on one connection", rows: calls(quick) },
        Table { what: "a container that runs", rows: whole_lives(lives) },
        Table { what: "`true` in a container that runs", rows: further_processes(execs) },
        Table { what: "output, lines of 100 bytes", rows: outputs(output) },
        Table { what: "memory of the host, PSS", rows: memories(memory) },
    ]
}

fn calls(quick: quick::Measured) -> Vec<Row> {
    let mut rows = vec![ms("`/_ping`", quick.ping, "≤ 1")];
    for (count, pair) in LISTED.into_iter().zip(quick.lists) {
        let goal = if count == 0 { "" } else { "≤ 0.3" };
        rows.push(ms(&format!("list; containers: {count}"), pair, goal));
    }
    rows.push(ms("create", quick.create, "≤ 0.25"));
    rows.push(ms("remove what never ran", quick.remove, "≤ 0.25"));
    rows
}

fn whole_lives(lives: lives::Measured) -> Vec<Row> {
    vec![
        ms("`docker run --rm busybox true`, CLI to exit", lives.command_line, "≤ 1 with a warm pool"),
        ms("start: reply", lives.start, ""),
        ms("start until the first byte of output", lives.first_byte, "≤ 1 with a warm pool"),
        ms("start until the wait for the end is answered", lives.whole, ""),
        ms("stop: reply", lives.stop, ""),
        ms("remove what has ended: reply", lives.remove_ended, "≤ 0.25"),
        ms("remove what runs: reply", lives.remove_running, ""),
    ]
}

fn further_processes(execs: execs::Measured) -> Vec<Row> {
    let per_second = |what: &str, pair| Row { unit: Unit::PerSecond, ..ms(what, pair, "") };
    vec![
        ms("round trip", execs.round_trip, ""),
        per_second("round trips, one client", execs.rate),
        per_second(&format!("round trips, {} clients", execs::CLIENTS), execs.parallel_rate),
        ms("processor time of the daemon", execs.daemon, ""),
        ms("processor time of berth-vmm; of shim and runc", execs.keeper, "≤ 1.5 ms with the daemon's"),
        ms("processor time of QEMU, which is the guest", execs.emulator, ""),
    ]
}

fn outputs(output: output::Measured) -> Vec<Row> {
    let rate = |what: &str, pair| Row { unit: Unit::MegabytesPerSecond, ..ms(what, pair, "") };
    vec![
        rate("written by the container, until its end is told", output.logged),
        rate("the same, until an attached client has it", output.attached),
        rate("`logs` of what has ended", output.read),
    ]
}

fn memories(memory: memory::Measured) -> Vec<Row> {
    let mebibytes = |what: &str, pair, goal| Row { unit: Unit::Mebibytes, ..ms(what, pair, goal) };
    vec![
        mebibytes("daemon, no container", memory.idle, "≤ 19 MiB"),
        mebibytes("per running container", memory.per_container, "≤ 0.5"),
        mebibytes("– of that, QEMU", memory.per_emulator, ""),
    ]
}

fn ms(what: &str, pair: Pair, goal: &'static str) -> Row {
    Row { what: what.to_owned(), unit: Unit::Milliseconds, pair, goal }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::PerSecond => "a second",
            Self::MegabytesPerSecond => "MB/s",
            Self::Mebibytes => "MiB",
        }
    }

    /// Behind the point.
    fn digits(self) -> usize {
        match self {
            Self::Milliseconds => 2,
            _ => 1,
        }
    }
}

impl Table {
    fn render(&self, peer: &str, text: &mut String) {
        let mut line =
            |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("a String takes all");
        line(format_args!("\n| {}: min / p50 / p90 | berth | {peer} | ratio | goal |", self.what));
        line(format_args!("|---|---|---|---|---|"));
        for Row { what, unit, pair, goal } in &self.rows {
            let ratio = pair.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let [ours, peer] = [&pair.ours, &pair.peer].map(|figures| figures.summary_to(unit.digits()));
            line(format_args!("| {what}, {} | {ours} | {peer} | {ratio} | {goal} |", unit.name()));
        }
    }

    fn json(&self) -> Value {
        let row = |Row { what, unit, pair, goal }: &Row| {
            json!({
                "what": what, "unit": unit.name(), "goal": goal, "ratio": pair.ratio(),
                "berth": numbers(&pair.ours), "peer": numbers(&pair.peer),
            })
        };
        json!({ "what": self.what, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

fn numbers(figures: &Figures) -> Value {
    json!({ "min": figures.percentile(0), "p50": figures.percentile(50), "p90": figures.percentile(90) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_invented() {
        let mut pair = Pair::default();
        pair.ours.add_number(1.0);
        let table = Table { what: "a call", rows: vec![ms("ping", pair, "≤ 1")] };
        let mut text = String::new();
        table.render("dockerd", &mut text);
        assert!(text.ends_with("| ping, ms | 1.00 | - / - / - | - | ≤ 1 |\n"), "{text}");
        let json = table.json();
        assert_eq!(json["rows"][0]["berth"]["p50"], 1.0);
        assert_eq!(json["rows"][0]["peer"]["p50"], Value::Null);
        assert_eq!(json["rows"][0]["ratio"], Value::Null);
    }
}
