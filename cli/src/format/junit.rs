//! A report as JUnit's XML: a suite for the run, with a test for the load, one for the audit and one for each threshold.

use super::demand;
use crate::summary;
use jiff::Timestamp;
use nearbench_core::{
    report::{BenchmarkReport, Run},
    schedule::target_rate,
    verdict::grounds,
};
use std::fmt::{self, Write};

/// What became of a test, with what there is to say about it.
enum Outcome {
    Held,
    Failed(String),
    /// It says nothing about what it asks for.
    Skipped(String),
}

/// The document, ending with a line break.
pub(crate) fn suite(report: &BenchmarkReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &BenchmarkReport) -> fmt::Result {
    let name = text(&report.run.name);
    let tests = tests(report);
    let count = |counted: fn(&Outcome) -> bool| tests.iter().filter(|(_, outcome)| counted(outcome)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\"", tests.len());
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"nearbench\" {counts}>")?;
    writeln!(out, "  <testsuite name=\"{name}\" {counts}{}>\n    <properties>", times(&report.run))?;
    for (property, value) in properties(report) {
        writeln!(out, "      <property name=\"{property}\" value=\"{}\"/>", text(&value))?;
    }
    writeln!(out, "    </properties>")?;
    for (test, outcome) in &tests {
        let head = format!("<testcase classname=\"{name}\" name=\"{}\"", text(test));
        match outcome {
            Outcome::Held => writeln!(out, "    {head}/>")?,
            Outcome::Failed(why) => {
                let why = text(why);
                writeln!(out, "    {head}>\n      <failure message=\"{why}\">{why}</failure>\n    </testcase>")?;
            }
            Outcome::Skipped(why) => {
                writeln!(out, "    {head}>\n      <skipped message=\"{}\"/>\n    </testcase>", text(why))?;
            }
        }
    }
    writeln!(out, "  </testsuite>\n</testsuites>")
}

fn tests(report: &BenchmarkReport) -> Vec<(String, Outcome)> {
    let grounds = grounds(report);
    let outcome = |why: &[String]| if why.is_empty() { Outcome::Held } else { Outcome::Failed(why.join("\n")) };
    let mut tests =
        vec![("load as scheduled".to_owned(), outcome(grounds.load)), ("audit".to_owned(), outcome(grounds.audit))];
    // Where the load was not as scheduled, or nobody looked at the chain, the numbers are no result: neither good nor bad.
    let no_result = !grounds.load.is_empty() || report.results.audit.is_none();
    for check in &report.ensure {
        let actual = check.actual.map_or_else(|| "there is no data".to_owned(), |actual| format!("it is {actual:.2}"));
        let outcome = if no_result {
            Outcome::Skipped(format!("{actual}, and the run is inconclusive: its numbers are no result"))
        } else if check.ok {
            Outcome::Held
        } else {
            Outcome::Failed(format!("it must be {}, and {actual}", check.bound))
        };
        tests.push((demand(check), outcome));
    }
    tests
}

fn properties(report: &BenchmarkReport) -> Vec<(&'static str, String)> {
    let (measures, chain) = (&report.results.measures, &report.environment.chain);
    let mut properties = vec![
        ("verdict", summary::word(report.verdict).to_owned()),
        ("nearbench", report.environment.nearbench_version.clone()),
        ("chain", format!("{} {}, chain id {}", chain.software, chain.version, chain.chain_id)),
        ("target", target_rate(&report.plan.load.phases).to_string()),
        ("tps.mean", format!("{:.2}", measures.tps.mean)),
        ("transfers", measures.counts.succeeded.to_string()),
    ];
    properties.extend(measures.success_rate.map(|rate| ("successRate", format!("{rate:.2}"))));
    if let Some(settle) = measures.latency_ms.settle {
        properties.push(("latencyMs.settle.p95", format!("{:.1}", settle.p95)));
        properties.push(("latencyMs.settle.p99", format!("{:.1}", settle.p99)));
    }
    properties
}

/// When the run began and how long it took, as attributes; nothing where its times are none. JUnit's are without a zone.
fn times(run: &Run) -> String {
    let (Ok(start), Ok(end)) = (run.start_time.parse::<Timestamp>(), run.completion_time.parse::<Timestamp>()) else {
        return String::new();
    };
    let seconds = end.duration_since(start).as_secs_f64();
    format!(" timestamp=\"{}\" time=\"{seconds:.3}\"", start.strftime("%Y-%m-%dT%H:%M:%S"))
}

/// Text for an element or a quoted attribute. A character that XML cannot hold becomes U+FFFD.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // As they are, a reader may make them spaces.
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}
