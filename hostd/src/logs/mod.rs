//! What containers print, kept: files of JSON lines, in the form of Docker's json-file driver.
//!
//! Each record also says where in its stream it ends (`offset`), so that after a crash of the daemon the pump knows
//! from the files themselves which bytes it still has to ask the agent for; where files rotate, it says of which run it
//! is, because the run's beginning may be in another file. The files are the only truth; a record that a crash cut
//! short is cut off.

mod files;
mod line;
mod read;
mod record;
mod settings;
mod write;

use serde::{Deserialize, Serialize};

pub(crate) use files::LogFiles;
pub use read::LogQuery;
pub(crate) use read::read_logs;
pub use record::LogRecord;
pub use settings::{LogDriver, LogSettings, Rotation};
pub(crate) use write::{LogWriter, Rest, RunInLog};

/// Which of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    Stdout,
    Stderr,
}
