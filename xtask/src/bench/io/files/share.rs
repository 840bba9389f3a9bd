//! A directory of the host's: fio on one file of it, and programs that look at a tree of many.

use std::path::Path;

use anyhow::{Context, bail};

use super::runner::{HostRoot, Runner};
use super::{Bench, Place, Row, Side, Table, Unit, disk, idle, interleaved, jobs, tree};
use crate::progress;

/// Where containers have it.
pub(super) const INSIDE: &str = "/share";
pub(super) const FILE: &str = "/share/workload";
/// Below it.
pub(super) const TREE: &str = "tree";

/// What looks at the tree, with what it is to say.
pub(super) struct Look {
    pub(super) what: &'static str,
    pub(super) script: &'static str,
    says: fn(&str) -> bool,
}

pub(super) const LOOKS: [Look; 2] = [
    Look {
        what: "`find` in a tree of 50,000 files",
        script: "find /share/tree -name .git -prune -o -type f -print | wc -l",
        says: |said| said.parse() == Ok(tree::FILES),
    },
    Look {
        what: "`git status` there",
        // A git that fails says nothing, too.
        script: "git -C /share/tree status --porcelain > /tmp/said && wc -l < /tmp/said",
        says: |said| said == "0",
    },
];

pub(super) fn measure(
    bench: &Bench<'_>,
    sides: &[&Side],
    host: &HostRoot,
    shared: &Path,
) -> anyhow::Result<Vec<Table>> {
    let mut runners = Vec::new();
    for side in sides {
        let bind = format!("{}:{INSIDE}", shared.display());
        runners.push(idle(side, &["--volume", &bind])?);
    }
    runners.push(Runner::Host { root: host, mount: Some((shared.to_path_buf(), INSIDE)) });
    let rounds = bench.options.runs;
    Ok(vec![
        disk::table("a file of a bind mount", rounds, &runners, &jobs::ON_A_NEW_FILE, FILE)?,
        looks(rounds, &runners)?,
    ])
}

fn looks(rounds: u32, runners: &[Runner<'_>]) -> anyhow::Result<Table> {
    let mut rows = Vec::new();
    for look in &LOOKS {
        progress::heading(format_args!("{rounds} times: {}", look.what));
        let mut first = look.rows("by a guest that has seen nothing of it");
        let mut again = look.rows("again");
        interleaved(rounds, runners, |runner| {
            runner.forget()?;
            let looked = look.run(runner, &mut first).and_then(|()| look.run(runner, &mut again));
            if let Err(error) = looked {
                // Where limits are low, so many files may be too many: its place in the table stays empty.
                progress::note(format_args!("{:?} cannot: {error:#}", runner.place()));
            }
            Ok(())
        })?;
        rows.extend(first.into_iter().chain(again));
    }
    Ok(Table { what: "many files of a bind mount".to_owned(), reference: Some(Place::Host), rows })
}

impl Look {
    fn rows(&self, when: &str) -> [Row; 2] {
        [
            Row::new(&format!("{}, {when}", self.what), Unit::Milliseconds),
            Row::new("– processor time of the host", Unit::Milliseconds),
        ]
    }

    /// # Errors
    /// The program has not seen what is there.
    pub(super) fn check(&self, said: &str) -> anyhow::Result<()> {
        if (self.says)(said.trim()) { Ok(()) } else { bail!("{}: {said}", self.what) }
    }

    fn run(&self, runner: &Runner<'_>, [took, cost]: &mut [Row; 2]) -> anyhow::Result<()> {
        let done = runner.run(self.script).with_context(|| self.what)?;
        self.check(&done.said)?;
        took.add(runner.place(), done.took.as_secs_f64() * 1e3);
        cost.add(runner.place(), done.spent.as_secs_f64() * 1e3);
        Ok(())
    }
}
