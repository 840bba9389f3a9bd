//! How many requests of the guest's reach the host: counted by the server of shares itself, which a daemon of its own
//! starts with its log on. Nothing is timed there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::jobs;
use super::runner::Runner;
use super::{Bench, Place, Row, Side, Table, Unit, idle, share};
use crate::progress;

/// What the server says of each request, before the request's name.
const REQUEST: &str = "Received request: opcode=";

pub(super) fn measure(
    bench: &Bench<'_>,
    archive: &Path,
    directory: &Path,
    shared: &Path,
) -> anyhow::Result<Table> {
    progress::heading("requests of a bind mount");
    let own = directory.join("counting");
    fs::create_dir(&own).context("no directory for a daemon")?;
    let server = talkative(&bench.products.programs.join("virtiofsd"), &own)?;
    let server = server.to_str().context("a temporary path is text")?;
    let flags = ["--bridge", "none", "--virtiofsd", server];
    let mut daemon = bench.options.daemon(&bench.products, &own, None, &flags)?;
    let side = Side::ours(&daemon, None)?;
    side.load(archive)?;
    let bind = format!("{}:{}", shared.display(), share::INSIDE);
    let runner = idle(&side, &["--volume", &bind])?;
    let log = Log::below(&own)?;
    let mut rows = Vec::new();
    for job in jobs::ON_A_NEW_FILE {
        let (said, requests) = log.during(&runner, &job.script(share::FILE))?;
        let (unit, number) = job.requests(&said, requests.total())?;
        rows.push(row(&format!("fio, {}", job.what), unit, number, &requests));
    }
    for look in &share::LOOKS {
        for when in ["by a guest that has seen nothing of it", "again"] {
            if when != "again" {
                runner.forget()?;
            }
            let (said, requests) = log.during(&runner, look.script)?;
            if let Err(error) = look.check(&said) {
                progress::note(format_args!("it cannot: {error:#}"));
                continue;
            }
            rows.push(row(&format!("{}, {when}", look.what), Unit::Requests, requests.total(), &requests));
        }
    }
    drop(runner);
    daemon.stop()?;
    Ok(Table { what: "requests to the host, and the most frequent".to_owned(), reference: None, rows })
}

/// A program beside the daemon's files that is the server, but says what it is asked.
fn talkative(server: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let path = directory.join("virtiofsd");
    let script = format!("#!/bin/sh\nRUST_LOG=virtiofsd::server=debug exec '{}' \"$@\"\n", server.display());
    fs::write(&path, script)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn row(what: &str, unit: Unit, number: f64, requests: &Requests) -> Row {
    let mut row = Row::new(&format!("{what} ({})", requests.most_frequent()), unit);
    row.add(Place::Berth, number);
    row
}

/// What the server of the only machine of a daemon says.
struct Log(PathBuf);

impl Log {
    fn below(directory: &Path) -> anyhow::Result<Self> {
        let mut found = Vec::new();
        let mut left = vec![directory.join("run")];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => left.push(entry.path()),
                    _ if entry.file_name() == "shares.log" => found.push(entry.path()),
                    _other => {}
                }
            }
        }
        match <[PathBuf; 1]>::try_from(found) {
            Ok([only]) => Ok(Self(only)),
            Err(found) => bail!("{} servers of shares have a log, not one", found.len()),
        }
    }

    /// Runs a script; what it said, and the requests that it led to.
    fn during(&self, runner: &Runner<'_>, script: &str) -> anyhow::Result<(String, Requests)> {
        let before = self.text()?.len();
        let done = runner.run(script)?;
        let text = self.text()?;
        Ok((done.said, Requests::of(text.get(before..).context("a log only grows")?)))
    }

    fn text(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.0).with_context(|| format!("cannot read {}", self.0.display()))
    }
}

/// By their names.
#[derive(Debug, PartialEq)]
struct Requests(BTreeMap<String, u32>);

impl Requests {
    fn of(log: &str) -> Self {
        let mut counts = BTreeMap::new();
        for line in log.lines() {
            let request = line.split_once(REQUEST).and_then(|(_, rest)| rest.split([' ', ',']).next());
            if let Some(name) = request {
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
        Self(counts)
    }

    fn total(&self) -> f64 {
        self.0.values().copied().map(f64::from).sum()
    }

    fn most_frequent(&self) -> String {
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = sorted.iter().take(3).map(|(name, count)| format!("{} {count}", name.to_lowercase()));
        shown.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_from_other_lines() {
        let log = "[DEBUG virtiofsd::server] Received request: opcode=Lookup (1), inode=1, unique=2, pid=3\n\
                   [DEBUG virtiofsd::server] Replying OK, header: OutHeader\n\
                   [DEBUG virtiofsd::server] Received request: opcode=Getattr (3), inode=1, unique=4, pid=3\n\
                   [DEBUG virtiofsd::server] Received request: opcode=Lookup (1), inode=1, unique=6, pid=3\n";
        let requests = Requests::of(log);
        assert!((requests.total() - 3.0).abs() < f64::EPSILON);
        assert_eq!(requests.most_frequent(), "lookup 2, getattr 1");
    }
}
