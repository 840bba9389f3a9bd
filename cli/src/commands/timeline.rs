//! `--timing`: how long each phase of a start took, as the daemon measured it, beside what we waited in all.

use std::time::Duration;

use crate::client::StartPhase;
use crate::output::note;
use crate::table;

/// Gathered when the container starts, printed when it has ended, so that it does not mix with the output.
pub(super) struct Timeline {
    pub(super) phases: Vec<StartPhase>,
    /// From the beginning of `run` to the daemon's word that the container runs.
    pub(super) waited: Duration,
}

impl Timeline {
    pub(super) fn print(&self) {
        note(self.render().trim_end());
    }

    fn render(&self) -> String {
        let mut rows = vec![vec!["PHASE".to_owned(), "TIME".to_owned()]];
        for phase in &self.phases {
            rows.push(vec![phase.phase.clone(), milliseconds(phase.milliseconds)]);
        }
        if self.phases.is_empty() {
            rows.push(vec!["(no timeline)".to_owned(), "this daemon gives none".to_owned()]);
        }
        rows.push(vec!["total seen".to_owned(), milliseconds(self.waited.as_secs_f64() * 1000.0)]);
        table::align(&rows)
    }
}

fn milliseconds(value: f64) -> String {
    format!("{value:>9.1} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_come_in_the_daemons_order() {
        let phase = |phase: &str, milliseconds| StartPhase { phase: phase.to_owned(), milliseconds };
        let timeline = Timeline {
            phases: vec![phase("image", 0.84), phase("machine", 1031.0)],
            waited: Duration::from_millis(1100),
        };
        assert_eq!(
            timeline.render(),
            "PHASE        TIME\n\
             image              0.8 ms\n\
             machine         1031.0 ms\n\
             total seen      1100.0 ms\n"
        );
    }

    #[test]
    fn a_daemon_without_timeline_is_told() {
        let timeline = Timeline { phases: Vec::new(), waited: Duration::ZERO };
        assert!(timeline.render().contains("this daemon gives none"));
    }
}
