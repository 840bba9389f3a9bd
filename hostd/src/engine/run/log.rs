//! A container's log, as one run writes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::logs::{LogFiles, LogWriter, RunInLog};

/// A container's log, open for one run.
pub(in crate::engine) struct RunLog {
    /// Nothing if the output is not kept.
    pub(super) writer: Option<LogWriter>,
    pub(super) files: Option<Arc<LogFiles>>,
    pub(super) grown: watch::Receiver<u64>,
}

impl RunLog {
    /// For a run that begins now, or for `run`, which began before. Blocks.
    pub(in crate::engine) fn open(
        files: Option<Arc<LogFiles>>,
        run: Option<RunInLog>,
        attributes: BTreeMap<String, String>,
    ) -> std::io::Result<Self> {
        let (sender, grown) = watch::channel(0);
        let open = |files| LogWriter::open(files, run, attributes, sender);
        let writer = files.clone().map(open).transpose()?;
        Ok(Self { writer, files, grown })
    }
}
