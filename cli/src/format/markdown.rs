//! A report as Markdown, to be read in a chat, a pull request or a daily stand-up: the verdict first, then a few numbers,
//! then what was wrong.

use crate::summary::word;
use nearbench_core::{
    audit::Audit,
    report::BenchmarkReport,
    schedule::target_rate,
    verdict::{Verdict, grounds},
};
use std::fmt::{self, Write};

/// The summary, ending with a line break.
pub(crate) fn summary(report: &BenchmarkReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &BenchmarkReport) -> fmt::Result {
    let BenchmarkReport { run, plan, results, verdict, .. } = report;
    let target = target_rate(&plan.load.phases);
    let tps = results.measures.tps.mean;
    let no_result = if *verdict == Verdict::Inconclusive { "; the numbers are no result" } else { "" };
    let name = text(&run.name);
    writeln!(out, "**{}**: {name}, {tps:.2} of {target} transfers/s{no_result}\n", word(*verdict))?;
    table(out, &["Measure", "Result"], &rows(report, target))?;
    let grounds = grounds(report);
    let about = [("audit", grounds.audit), ("load", grounds.load), ("threshold", grounds.thresholds)];
    if about.iter().any(|(_, reasons)| !reasons.is_empty()) {
        writeln!(out, "\nWhat failed:\n")?;
    }
    for (what, reasons) in about {
        for reason in reasons {
            writeln!(out, "- {what}: {}", text(reason))?;
        }
    }
    let limit = format!("{:?}", results.limited_by.what).to_lowercase();
    writeln!(out, "\nLimited by {limit}: {}", text(&results.limited_by.evidence))
}

fn rows(report: &BenchmarkReport, target: f64) -> Vec<Vec<String>> {
    let (measures, chain) = (&report.results.measures, &report.environment.chain);
    let counts = &measures.counts;
    let latency = measures.latency_ms.settle.map_or_else(
        || "no data".to_owned(),
        |settle| format!("p95 {:.2} s, p99 {:.2} s", settle.p95 / 1_000.0, settle.p99 / 1_000.0),
    );
    let success = measures.success_rate.map_or_else(|| "no data".to_owned(), |rate| format!("{rate:.2} %"));
    let mut transfers = format!("{} succeeded of {} offered", counts.succeeded, counts.offered);
    for (count, what) in [
        (counts.not_sent, "not sent"),
        (counts.rejected, "rejected"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.expired, "expired"),
        (counts.unknown, "unknown"),
    ] {
        if count > 0 {
            transfers += &format!(", {count} {what}");
        }
    }
    let tps = format!("{:.2} mean, {:.2} peak, target {target}", measures.tps.mean, measures.tps.peak);
    let chain = format!("{} {}, chain id {}", chain.software, chain.version, chain.chain_id);
    [
        ("TPS", tps),
        ("Success", success),
        ("Settle latency", latency),
        ("Transfers", transfers),
        ("Audit", audit(report.results.audit)),
        ("Chain", text(&chain)),
    ]
    .map(|(measure, value)| vec![measure.to_owned(), value])
    .into()
}

fn audit(audit: Option<Audit>) -> String {
    match audit {
        Some(audit) if audit.matches => format!("matches, {} transfers found on chain", audit.transfers_found),
        Some(_) => "**does not match**".to_owned(),
        None => "none".to_owned(),
    }
}

/// A table; its cells are Markdown already.
pub(crate) fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) -> fmt::Result {
    writeln!(out, "| {} |\n|{}", head.join(" | "), " --- |".repeat(head.len()))?;
    rows.iter().try_for_each(|row| writeln!(out, "| {} |", row.join(" | ")))
}

/// Text that stays text, on one line, also in the cell of a table: whatever could be markup of Markdown or HTML is escaped.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' => out.extend(['\\', character]),
            '\n' | '\r' | '\t' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push(' '),
            character if character.is_control() => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}
