//! Standard output and standard error: results here, errors there.

use crate::exit::Failure;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// Prints a result. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_ref().as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::run(error)),
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::run)?;
    print(text + "\n")
}

/// Prints a remark to a person.
pub(crate) fn note(text: &str) {
    // Nothing depends on it.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Prints an error and what caused it, once each.
pub(crate) fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    note(&text);
}
