//! What containers print, kept: one file of JSON lines per container, in the form of Docker's json-file driver.
//!
//! Each record also says where in its stream it ends (`offset`), so that after a crash of the daemon the pump knows
//! from the file itself which bytes it still has to ask the agent for. The file is the only truth; a record that a
//! crash cut short is cut off.

mod read;
mod record;
mod write;

use serde::{Deserialize, Serialize};

pub use read::LogQuery;
pub(crate) use read::read_logs;
pub use record::LogRecord;
pub(crate) use write::{LogWriter, Rest};

/// Which of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    Stdout,
    Stderr,
}
