//! `nearbench report`: a report.json as the run printed it.

use crate::{
    args,
    exit::{self, Failure},
    output, summary,
};
use anyhow::{Context, anyhow};
use nearbench_core::report::{API_VERSION, BenchmarkReport, KIND};
use serde_json::{Value, error::Category};
use std::{fs, path::PathBuf};

pub(crate) fn run(args: &args::Report) -> Result<u8, Failure> {
    let path = file(&args.path).map_err(Failure::input)?;
    let text = fs::read(&path)
        .with_context(|| format!("cannot read the report {}", path.display()))
        .map_err(Failure::input)?;
    let text = String::from_utf8_lossy(&text);
    let report = parse(&text).with_context(|| path.display().to_string()).map_err(Failure::input)?;
    // As JSON it is the file itself: a number read and written again may end in another digit.
    output::print(if args.json { text.into_owned() } else { summary::table(&report) })?;
    Ok(exit::PASSED)
}

fn file(path: &std::path::Path) -> anyhow::Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let inside = path.join("report.json");
    if inside.exists() {
        return Ok(inside);
    }
    Err(anyhow!(
        "{} holds no report.json: name the --out folder of a run that came to its end, or the file itself",
        path.display()
    ))
}

fn parse(text: &str) -> anyhow::Result<BenchmarkReport> {
    let value: Value = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => anyhow!("it ends in the middle of the report: it was cut; copy it again, or repeat the run"),
        _ => anyhow!(
            "it is not JSON (line {}, column {}): name the report.json that `nearbench run` wrote",
            error.line(),
            error.column()
        ),
    })?;
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match value[field].as_str() {
            Some(found) if found == wanted => {}
            found => {
                let found = found.map_or_else(|| format!("lacks {field}"), |found| format!("has {field}: {found:?}"));
                return Err(anyhow!(
                    "it {found}, and a report has {wanted:?}: name the report.json that `nearbench run` wrote"
                ));
            }
        }
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let what = error.inner().to_string();
        // The parser's word for a missing field names it in backquotes.
        let lacks = what.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let within = error.path().to_string();
        let what = match (lacks, within.as_str()) {
            (Some(field), ".") => format!("lacks {field}"),
            (Some(field), within) => format!("lacks {within}.{field}"),
            (None, within) => format!("holds something unknown at {within}"),
        };
        let version = env!("CARGO_PKG_VERSION");
        anyhow!("it {what}: it is damaged, or of another version than this nearbench, {version}")
    })
}
