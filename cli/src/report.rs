//! `nearbench report`: a report as the run printed it, or as a page, from a file or from the cluster; also a result of
//! Artillery.

use crate::{
    args::{self, ReportFormat},
    artillery::{self, ArtilleryResult},
    exit::{self, Failure},
    follower,
    format::{junit, markdown},
    output, page, summary,
};
use anyhow::{Context, anyhow};
use nearbench_core::report::{API_VERSION, BenchmarkReport, KIND};
use serde_json::{Value, error::Category};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) async fn run(args: args::Report) -> Result<u8, Failure> {
    let (source, text) = text_of(&args.path, args.namespace.as_deref()).await?;
    let format = if args.json { ReportFormat::Json } else { args.format };
    let document = json(&text).context(source.clone()).map_err(Failure::input)?;
    if let Some(file) = &args.html {
        let report = of_nearbench(document, "can be shown as a page").context(source).map_err(Failure::input)?;
        page::write(file, &report)?;
        output::note(&format!("{} is written", file.display()));
        return Ok(exit::PASSED);
    }
    let printed = if artillery::is_artillery(&document) {
        of_artillery(document, &source, text, format).context(source)
    } else {
        typed(document).map(|report| of_run(&report, text, format)).context(source)
    };
    output::print(printed.map_err(Failure::input)?)?;
    Ok(exit::PASSED)
}

/// A report of nearbench's own, where nothing else will do.
fn of_nearbench(document: Value, only_then: &str) -> anyhow::Result<BenchmarkReport> {
    if artillery::is_artillery(&document) {
        return Err(anyhow!("it is a result of Artillery, and only reports of nearbench {only_then}"));
    }
    typed(document)
}

fn of_run(report: &BenchmarkReport, text: String, format: ReportFormat) -> String {
    match format {
        ReportFormat::Table => summary::table(report),
        // The document itself: a number read and written again may end in another digit.
        ReportFormat::Json => text,
        ReportFormat::Junit => junit::suite(report),
        ReportFormat::Md => markdown::summary(report),
    }
}

fn of_artillery(document: Value, source: &str, text: String, format: ReportFormat) -> anyhow::Result<String> {
    let result = ArtilleryResult::parse(document)?;
    match format {
        ReportFormat::Table => Ok(result.table(source)),
        ReportFormat::Json => Ok(text),
        ReportFormat::Md => Ok(result.markdown(source)),
        ReportFormat::Junit => Err(anyhow!(
            "--format junit: it is a result of Artillery, which has no verdict, threshold or audit to make tests of; use table, \
             md or json"
        )),
    }
}

/// The report that `path` names, and where it is.
pub(crate) async fn load(path: &Path, namespace: Option<&str>) -> Result<(String, BenchmarkReport), Failure> {
    let (source, text) = text_of(path, namespace).await?;
    let report = json(&text).and_then(|document| of_nearbench(document, "can be compared"));
    Ok((source.clone(), report.context(source).map_err(Failure::input)?))
}

async fn text_of(path: &Path, namespace: Option<&str>) -> Result<(String, String), Failure> {
    match in_cluster(path) {
        Some(name) => Ok((format!("run/{name}"), follower::report_of(name, namespace).await?)),
        None => read(path).map_err(Failure::input),
    }
}

/// The name in `run/NAME`, unless there is such a file.
fn in_cluster(path: &Path) -> Option<&str> {
    let name = path.to_str()?.strip_prefix("run/")?;
    (!path.exists() && !name.contains('/')).then_some(name)
}

fn read(path: &Path) -> anyhow::Result<(String, String)> {
    let path = file(path)?;
    let text = fs::read(&path).with_context(|| format!("cannot read the report {}", path.display()))?;
    Ok((path.display().to_string(), String::from_utf8_lossy(&text).into_owned()))
}

fn file(path: &Path) -> anyhow::Result<PathBuf> {
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

fn json(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => anyhow!("it ends in the middle of the report: it was cut; copy it again, or repeat the run"),
        _ => anyhow!(
            "it is not JSON (line {}, column {}): name the report.json that `nearbench run` wrote",
            error.line(),
            error.column()
        ),
    })
}

fn typed(value: Value) -> anyhow::Result<BenchmarkReport> {
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
