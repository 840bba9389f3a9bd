//! The tables, for the page and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::super::api::Format;
use super::super::figures::Figures;
use super::super::report::{Section, conditions};
use super::side::Side;
use super::table::{Place, Row, Table};
use super::{Bench, Part};

/// What one part of the benchmark found, with what it was found under.
pub(super) struct Report {
    pub(super) part: Part,
    pub(super) accelerator: String,
    pub(super) tables: Vec<Table>,
}

impl Report {
    /// Onto the page, and to standard output where programs read it.
    ///
    /// # Errors
    /// The page cannot be written.
    pub(super) fn write(&self, bench: &Bench<'_>) -> anyhow::Result<()> {
        let peer = peer_name(bench.peer.as_ref());
        let rounds = bench.options.runs;
        let conditions = conditions(&format!("{rounds} rounds, accelerator `{}`", self.accelerator));
        if bench.options.format == Format::Json {
            let tables: Vec<Value> = self.tables.iter().map(json).collect();
            println!("{:#}", json!({ "conditions": conditions.trim_end(), "peer": peer, "tables": tables }));
        }
        let mut text = conditions;
        self.tables.iter().for_each(|table| render(table, &peer, &mut text));
        Section::named(self.part.section()).write(bench.workspace, &text)
    }
}

fn peer_name(peer: Option<&Side>) -> String {
    peer.map_or_else(
        || "dockerd (none answered in this run)".to_owned(),
        |peer| format!("dockerd {}", peer.version),
    )
}

fn render(table: &Table, peer: &str, text: &mut String) {
    let places = table.places();
    let names = places.iter().map(|place| match place {
        Place::Berth => "berth",
        Place::Peer => peer,
        Place::Host => "the host",
    });
    let names: Vec<&str> = names.collect();
    let of = match table.reference {
        Some(Place::Host) => " ratio to the host |",
        Some(_peer) => " ratio |",
        None => "",
    };
    let mut line = |words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("a String takes all");
    line(format_args!("\n| {}: min / p50 / p90 | {} |{of}", table.what, names.join(" | ")));
    let columns = places.len() + usize::from(table.reference.is_some());
    line(format_args!("|---|{}", "---|".repeat(columns)));
    for row in &table.rows {
        let cells = places
            .iter()
            .map(|place| row.figures.get(place).cloned().unwrap_or_default().summary_to(row.unit.digits()));
        let cells: Vec<String> = cells.collect();
        let ratio =
            row.ratio(table.reference).map_or_else(|| " - |".to_owned(), |ratio| format!(" {ratio:.2} |"));
        let ratio = table.reference.map_or_else(String::new, |_| ratio);
        line(format_args!("| {}, {} | {} |{ratio}", row.what, row.unit.name(), cells.join(" | ")));
    }
}

fn json(table: &Table) -> Value {
    let row = |row: &Row| {
        let numbers = |place| row.figures.get(&place).map_or(Value::Null, numbers);
        json!({
            "what": row.what, "unit": row.unit.name(), "ratio": row.ratio(table.reference),
            "berth": numbers(Place::Berth), "peer": numbers(Place::Peer), "host": numbers(Place::Host),
        })
    };
    json!({ "what": table.what, "rows": table.rows.iter().map(row).collect::<Vec<_>>() })
}

fn numbers(figures: &Figures) -> Value {
    json!({ "min": figures.percentile(0), "p50": figures.percentile(50), "p90": figures.percentile(90) })
}

#[cfg(test)]
mod tests {
    use super::super::table::Unit;
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_invented() {
        let mut row = Row::new("sent", Unit::MegabytesPerSecond);
        row.add(Place::Berth, 1.0);
        let table = Table { what: "a path".to_owned(), reference: Some(Place::Peer), rows: vec![row] };
        let mut text = String::new();
        render(&table, "dockerd", &mut text);
        assert!(text.ends_with("| sent, MB/s | 1.0 | - / - / - | - |\n"), "{text}");
        let json = json(&table);
        assert_eq!(json["rows"][0]["berth"]["p50"], 1.0);
        assert_eq!(json["rows"][0]["peer"], Value::Null);
    }
}
