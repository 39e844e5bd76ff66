//! `nearbench report`: a report.json as the run printed it.

use crate::{
    args,
    exit::{self, Failure},
    output, summary,
};
use anyhow::{Context, anyhow};
use nearbench_core::report::{API_VERSION, BenchmarkReport, KIND};
use std::fs;

pub(crate) fn run(args: &args::Report) -> Result<u8, Failure> {
    let path = if args.path.is_dir() { args.path.join("report.json") } else { args.path.clone() };
    let report = fs::read_to_string(&path)
        .map_err(anyhow::Error::from)
        .and_then(|text| parse(&text))
        .with_context(|| format!("{} is no report", path.display()))
        .map_err(Failure::input)?;
    if args.json {
        output::print_json(&report)?
    } else {
        output::print(summary::table(&report))?
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
