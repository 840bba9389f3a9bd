//! Asking before what cannot be undone.

use std::io::{self, BufRead, Write};

use crate::outcome::Failure;
use crate::output::print;

/// Whether the user says yes; silence and anything else mean no.
pub(super) fn given(warning: &str) -> Result<bool, Failure> {
    print(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
    io::stdout().flush().map_err(Failure::Output)?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|source| Failure::File { object: "read from standard input".to_owned(), source })?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
