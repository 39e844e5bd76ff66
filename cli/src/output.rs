//! Standard output and standard error: results here, errors there.

use crate::{exit::Failure, log};
use anyhow::{Context, anyhow};
use serde::Serialize;
use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The report's file in a run's folder.
pub(crate) const REPORT_FILE: &str = "report.json";

/// Whether standard error is for machines.
static JSON: AtomicBool = AtomicBool::new(false);

/// What is logged.
static LOG: OnceLock<String> = OnceLock::new();

/// Notes what is logged, for processes that this one starts.
pub(crate) fn log_level(level: &str) {
    LOG.get_or_init(|| level.to_owned());
}

/// The arguments that make another process of nearbench say the same.
pub(crate) fn as_arguments() -> [&'static str; 4] {
    let format = if is_json() { "json" } else { "text" };
    ["--log-format", format, "--log", LOG.get().map_or("warn", String::as_str)]
}

/// From now on each line on standard error is a JSON object, as the log's are.
pub(crate) fn use_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Whether each line on standard error is a JSON object.
pub(crate) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// That `path` is a folder, or is yet to be made one.
pub(crate) fn is_folder(option: &str, path: &Path) -> Result<(), Failure> {
    if path.is_dir() || !path.exists() {
        return Ok(());
    }
    Err(Failure::input(anyhow!("{option} {} is a file: name a folder", path.display())))
}

/// Writes a file of a folder that is there; its path.
pub(crate) fn write_whole(folder: &Path, name: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = folder.join(name);
    // Written beside and renamed, so that nobody reads half of it.
    let beside = folder.join(format!(".{name}"));
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, &path))
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Failure::run)?;
    Ok(path)
}

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
    line("INFO", text.trim_start_matches(['=', '>', ' ']), text);
}

/// Prints an error and what caused it.
pub(crate) fn error(error: &anyhow::Error) {
    let text = in_a_line(error);
    line("ERROR", &text, &format!("error: {text}"));
}

/// An error and what caused it, once each.
pub(crate) fn in_a_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn line(level: &str, message: &str, for_people: &str) {
    let line = if is_json() { log::remark(level, message) } else { for_people.to_owned() } + "\n";
    // At once: workers write there too. Nothing depends on it, and nobody may be reading any more.
    drop(std::io::stderr().write_all(line.as_bytes()));
}
