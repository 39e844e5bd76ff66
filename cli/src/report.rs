//! `nearbench report`: a report as the run printed it, from a file or from the cluster.

use crate::{
    args,
    exit::{self, Failure},
    follower, output, summary,
};
use anyhow::{Context, anyhow};
use nearbench_core::report::{API_VERSION, BenchmarkReport, KIND};
use std::{fs, path::Path};

pub(crate) async fn run(args: args::Report) -> Result<u8, Failure> {
    if let Some(name) = in_cluster(&args.path) {
        let text = follower::report_of(name, args.namespace.as_deref()).await?;
        let report = parse(&text).with_context(|| format!("run/{name} has no report")).map_err(Failure::input)?;
        return show(&report, args.json);
    }
    let path = if args.path.is_dir() { args.path.join("report.json") } else { args.path.clone() };
    let report = fs::read_to_string(&path)
        .map_err(anyhow::Error::from)
        .and_then(|text| parse(&text))
        .with_context(|| format!("{} is no report", path.display()))
        .map_err(Failure::input)?;
    show(&report, args.json)
}

/// The name in `run/NAME`, unless there is such a file.
fn in_cluster(path: &Path) -> Option<&str> {
    let name = path.to_str()?.strip_prefix("run/")?;
    (!path.exists() && !name.contains('/')).then_some(name)
}

fn show(report: &BenchmarkReport, json: bool) -> Result<u8, Failure> {
    if json {
        output::print_json(report)?
    } else {
        output::print(summary::table(report))?
    }
    Ok(exit::PASSED)
}

fn parse(text: &str) -> anyhow::Result<BenchmarkReport> {
    let value: serde_json::Value = serde_json::from_str(text).context("it is not JSON")?;
    let of = |field: &str| value[field].as_str().unwrap_or("nothing").to_owned();
    if (of("apiVersion").as_str(), of("kind").as_str()) != (API_VERSION, KIND) {
        return Err(anyhow!("it is a {} of {}; a {KIND} of {API_VERSION} is expected", of("kind"), of("apiVersion")));
    }
    Ok(serde_path_to_error::deserialize(value)?)
}
