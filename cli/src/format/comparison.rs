//! Runs beside the one that they are measured by: as tables for people, as JSON, and as what the page of a comparison shows.
//! What differs in what was asked for comes before any number.

use super::{
    markdown::{self, text},
    plain,
};
use crate::summary::word;
use nearbench_core::{
    compare::{
        BLOCK_SECONDS, Change, Comparison, Difference, Finding, LEAST_BLOCKS, Outcome, SIGNIFICANT, Series, SeriesTest,
    },
    ensure::Check,
    report::{BenchmarkReport, Environment, Results, Run},
    verdict::Verdict,
};
use serde::Serialize;
use serde_json::Value;
use std::{
    fmt::{self, Write},
    iter,
};

/// Of what differs in two plans, so many fields are printed; as JSON it is all.
const MOST_FIELDS: usize = 20;
/// A value is printed to so many characters.
const MOST_CHARACTERS: usize = 60;

/// One of the runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Side {
    source: String,
    run: String,
    start_time: String,
    verdict: Verdict,
}

impl Side {
    pub(crate) fn new(source: String, report: &BenchmarkReport) -> Self {
        let run = &report.run;
        Self { source, run: run.name.clone(), start_time: run.start_time.clone(), verdict: report.verdict }
    }

    fn describe(&self) -> String {
        format!("{} ({}, {})", self.run, self.source, word(self.verdict))
    }
}

/// A new run, and how it compares.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Compared {
    pub(crate) new: Side,
    #[serde(flatten)]
    pub(crate) comparison: Comparison,
}

/// All of it, for programs.
pub(crate) fn json(base: &Side, compared: &[Compared], tolerance: f64) -> impl Serialize {
    serde_json::json!({
        "base": base,
        "tolerancePercent": tolerance,
        "test": {"name": TEST, "blockSeconds": BLOCK_SECONDS, "significantBelow": SIGNIFICANT},
        "comparisons": compared,
    })
}

/// A comparison as its page has it: every word on what was found, and what the charts are made of.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page<'a> {
    /// The base, then the new ones.
    runs: Vec<PageRun<'a>>,
    /// Of each new run its `outcome` and `remarks`; `plan` and `environment`, each `{what, fields: [{field, base, new}], more}`,
    /// or `null` where nothing differs; `changes`: `{measure, base, new, percent, finding, told}`; `tests`: `{title, phase,
    /// base, new, chance}`, where a side is `{phase, blocks, mean}`.
    comparisons: Vec<Value>,
    /// What a regression is.
    explanation: String,
    tolerance_percent: f64,
    nearbench_version: &'static str,
}

/// A run without its plan, which may name many receivers.
#[derive(Serialize)]
struct PageRun<'a> {
    source: &'a str,
    verdict: Verdict,
    run: &'a Run,
    environment: &'a Environment,
    results: &'a Results,
    ensure: &'a [Check],
}

/// All of it, for the page. `reports` are those of the base and of the new runs.
pub(crate) fn page<'a>(
    base: &'a Side,
    compared: &'a [Compared],
    tolerance: f64,
    reports: &'a [BenchmarkReport],
) -> Page<'a> {
    let run = |(side, report): (&'a Side, &'a BenchmarkReport)| {
        let BenchmarkReport { verdict, run, environment, results, ensure, .. } = report;
        PageRun { source: &side.source, verdict: *verdict, run, environment, results, ensure }
    };
    // One, unless blocks differ in length.
    let mut explanations: Vec<_> = compared
        .iter()
        .map(|compared| explanation(tolerance, compared.comparison.block_seconds).replace('\n', " "))
        .collect();
    explanations.dedup();
    Page {
        runs: iter::once(base).chain(compared.iter().map(|compared| &compared.new)).zip(reports).map(run).collect(),
        comparisons: compared.iter().map(|compared| for_page(&compared.comparison)).collect(),
        explanation: explanations.join(" "),
        tolerance_percent: tolerance,
        nearbench_version: env!("CARGO_PKG_VERSION"),
    }
}

fn for_page(comparison: &Comparison) -> Value {
    let field = |Difference { field, base, new }: &Difference| serde_json::json!({"field": field, "base": value(base), "new": value(new)});
    let differing = |differences: &[Difference], what| {
        let fields: Vec<_> = differences.iter().take(MOST_FIELDS).map(field).collect();
        (!fields.is_empty()).then(|| serde_json::json!({"what": what, "fields": fields, "more": more(differences)}))
    };
    let change = |change: &Change| {
        let Change { measure, base, new, percent, finding: kind, .. } = change;
        let told = finding(change, comparison);
        serde_json::json!({
            "measure": measure, "base": base, "new": new, "percent": percent, "finding": kind, "told": told,
        })
    };
    let test = |test: &SeriesTest| {
        let (title, phase) = (title(test.series), phases(test));
        serde_json::json!({"title": title, "phase": phase, "base": test.base, "new": test.new, "chance": chance(test)})
    };
    serde_json::json!({
        "outcome": comparison.outcome,
        "plan": differing(&comparison.plan, OTHER_PLANS),
        "environment": differing(&comparison.environment, OTHER_ENVIRONMENTS),
        "remarks": remarks(comparison),
        "changes": comparison.changes.iter().map(change).collect::<Vec<_>>(),
        "tests": comparison.tests.iter().map(test).collect::<Vec<_>>(),
    })
}

/// As text, ending with a line break.
pub(crate) fn table(base: &Side, compared: &[Compared], tolerance: f64) -> String {
    join(compared, |out, compared| as_table(out, base, compared, tolerance))
}

/// As Markdown, ending with a line break.
pub(crate) fn markdown(base: &Side, compared: &[Compared], tolerance: f64) -> String {
    join(compared, |out, compared| as_markdown(out, base, compared, tolerance))
}

fn join(compared: &[Compared], write: impl Fn(&mut String, &Compared) -> fmt::Result) -> String {
    let mut out = String::new();
    for compared in compared {
        if !out.is_empty() {
            out.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = write(&mut out, compared);
    }
    out
}

const OTHER_PLANS: &str = "The plans differ: the numbers may differ because other things were asked for.";
const OTHER_ENVIRONMENTS: &str = "The environments differ: the numbers may differ because of them.";
const TEST: &str = "Welch's t-test";

fn as_table(out: &mut String, base: &Side, Compared { new, comparison }: &Compared, tolerance: f64) -> fmt::Result {
    writeln!(
        out,
        "{}: {}\n  beside {}",
        headline(comparison.outcome),
        plain(&new.describe()),
        plain(&base.describe())
    )?;
    for (differences, what) in [(&comparison.plan, OTHER_PLANS), (&comparison.environment, OTHER_ENVIRONMENTS)] {
        if !differences.is_empty() {
            writeln!(out, "\n{what}")?;
            listed(differences).iter().try_for_each(|line| writeln!(out, "  {}", plain(line)))?;
        }
    }
    let remarks = remarks(comparison);
    if !remarks.is_empty() {
        writeln!(out)?;
        remarks.iter().try_for_each(|remark| writeln!(out, "{}", plain(remark)))?;
    }
    writeln!(out, "\n  {:<24} {:>11} {:>11} {:>10}", "", "base", "new", "change")?;
    for change in &comparison.changes {
        let Change { measure, base, new, percent, .. } = change;
        let line = format!(
            "  {measure:<24} {:>11} {:>11} {:>10}  {}",
            number(*base),
            number(*new),
            percentage(*percent),
            finding(change, comparison)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out, "\n{}", explanation(tolerance, comparison.block_seconds))?;
    comparison.tests.iter().try_for_each(|test| writeln!(out, "  {:<28}  {}", title(test.series), plain(&told(test))))
}

fn as_markdown(out: &mut String, base: &Side, Compared { new, comparison }: &Compared, tolerance: f64) -> fmt::Result {
    let (headline, new, base) = (headline(comparison.outcome), text(&new.describe()), text(&base.describe()));
    writeln!(out, "**{headline}**: {new} beside {base}\n")?;
    for (differences, what) in [(&comparison.plan, OTHER_PLANS), (&comparison.environment, OTHER_ENVIRONMENTS)] {
        if !differences.is_empty() {
            writeln!(out, "{what}\n")?;
            listed(differences).iter().try_for_each(|line| writeln!(out, "- {}", text(line)))?;
            writeln!(out)?;
        }
    }
    for remark in remarks(comparison) {
        writeln!(out, "**{}**\n", text(&remark))?;
    }
    let row = |change: &Change| {
        let (base, new) = (number(change.base), number(change.new));
        vec![change.measure.to_owned(), base, new, percentage(change.percent), finding(change, comparison)]
    };
    let rows: Vec<_> = comparison.changes.iter().map(row).collect();
    markdown::table(out, &["Measure", "Base", "New", "Change", "Finding"], &rows)?;
    writeln!(out, "\n{}\n", explanation(tolerance, comparison.block_seconds))?;
    comparison.tests.iter().try_for_each(|test| writeln!(out, "- {}: {}", title(test.series), text(&told(test))))
}

fn headline(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NoRegression => "NO REGRESSION",
        Outcome::Regression => "REGRESSION",
        Outcome::NoResult => "NO RESULT",
    }
}

/// What has to be known before the numbers are read.
fn remarks(comparison: &Comparison) -> Vec<String> {
    let contradicted = "The chain disagrees with the new run's report, whatever its numbers.";
    let contradicted = comparison.contradicted.then(|| contradicted.to_owned());
    let no_result = comparison.no_result.iter().map(|why| format!("{why}. The numbers are no result."));
    no_result.chain(contradicted).collect()
}

fn listed(differences: &[Difference]) -> Vec<String> {
    let line = |Difference { field, base, new }: &Difference| format!("{field}: {} -> {}", value(base), value(new));
    differences.iter().take(MOST_FIELDS).map(line).chain(more(differences)).collect()
}

/// What is told of those that are not listed.
fn more(differences: &[Difference]) -> Option<String> {
    let more = differences.len().saturating_sub(MOST_FIELDS);
    (more > 0).then(|| format!("and {more} more: --format json has them all"))
}

fn value(value: &Value) -> String {
    let (text, count) = match value {
        Value::Null => ("none".to_owned(), None),
        Value::Array(items) => (value.to_string(), Some(items.len())),
        value => (value.to_string(), None),
    };
    let mut short: String = text.chars().take(MOST_CHARACTERS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    match count {
        Some(count) => format!("{short} ({count})"),
        None => short,
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

fn percentage(percent: Option<f64>) -> String {
    match percent {
        Some(0.0) => "0.0 %".to_owned(),
        Some(percent) => format!("{percent:+.1} %"),
        None => "-".to_owned(),
    }
}

fn finding(change: &Change, comparison: &Comparison) -> String {
    let test = comparison.tests.iter().find(|test| Some(test.series) == change.series);
    let p = test.and_then(|test| test.p).map_or_else(String::new, |p| format!(" ({})", probability(p)));
    match (change.finding, change.series) {
        (Finding::NotJudged, _) => String::new(),
        (Finding::Held, _) => "ok".to_owned(),
        (Finding::Chance, _) => format!("may be chance{p}"),
        (Finding::Regression, _) => format!("REGRESSION{p}"),
        (Finding::UntestedRegression, Some(_)) => "REGRESSION (too few blocks for a test)".to_owned(),
        (Finding::UntestedRegression, None) => "REGRESSION (a count, which needs no test)".to_owned(),
    }
}

fn probability(p: f64) -> String {
    if p < 0.0001 { "p < 0.0001".to_owned() } else { format!("p = {p:.4}") }
}

fn explanation(tolerance: f64, block_seconds: u64) -> String {
    format!(
        "A regression is worse by more than {tolerance} % and significant (p < {SIGNIFICANT}) by {TEST} on the means of\n\
         {block_seconds}-second blocks of the longest steady phase, without its first and its last block. What has no finding\n\
         is shown and not judged."
    )
}

fn title(series: Series) -> &'static str {
    match series {
        Series::Succeeded => "succeeded a second (TPS)",
        Series::SettleMeanMs => "mean settle ms (p50)",
        Series::SettleMaxMs => "longest settle ms (p95, p99)",
    }
}

fn told(test: &SeriesTest) -> String {
    let SeriesTest { base, new, p, .. } = test;
    let n = format!("n = {} and {}", base.blocks, new.blocks);
    let means = format!("mean {} and {}", number(base.mean), number(new.mean));
    let then = if p.is_some() { "," } else { ";" };
    format!("{}: {n}, {means}{then} {}", phases(test), chance(test))
}

fn phases(SeriesTest { base, new, .. }: &SeriesTest) -> String {
    let phase = |phase: &Option<String>| phase.clone().unwrap_or_else(|| "no steady phase".to_owned());
    match (&base.phase, &new.phase) {
        (one, other) if one == other => phase(one),
        (one, other) => format!("{} and {}", phase(one), phase(other)),
    }
}

/// What chance makes of the difference.
fn chance(test: &SeriesTest) -> String {
    let needs = || format!("a test needs {LEAST_BLOCKS} blocks of each, so the tolerance alone decides");
    test.p.map_or_else(needs, probability)
}
