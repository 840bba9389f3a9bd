//! Text to standard output and error that never panics when nobody reads it.

use std::io::{self, Write};

use crate::outcome::Failure;

/// Writes to standard output and flushes.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::Output)
}

/// Writes a line to standard error. There is no better place to report that this failed.
pub(crate) fn note(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}
