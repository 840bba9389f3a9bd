//! `berth`: runs containers, each in a machine of its own, by talking the Docker Engine API to a daemon.
//!
//! Parses the command line, runs one command, and turns how it ended into text and exit status. No state of its own,
//! no daemon files, nothing that only Linux has outside `cfg`.

mod arguments;
mod commands;
mod options;

mod detach_keys;
mod session;
mod signals;
mod streams;
mod terminal;

mod client;
mod credentials;
mod host;

mod doctor;

mod environment;
mod format;
mod moment;
mod outcome;
mod output;
mod quantity;
mod reference;
mod table;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use outcome::Outcome;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return arguments::explain(&error),
    };
    match run(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            if !failure.is_silent() {
                output::note(&failure.to_string());
            }
            ExitCode::from(failure.status())
        }
    }
}

fn run(arguments: Arguments) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| outcome::Failure::File { object: "starting the event loop".to_owned(), source })?;
    let outcome = runtime.block_on(arguments.execute());
    // A write that nobody reads may still be blocked on a thread: it must not keep the process.
    runtime.shutdown_background();
    outcome
}
