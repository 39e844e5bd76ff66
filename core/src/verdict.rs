//! The verdict: what a run is worth.
//!
//! A run that was not what it was meant to be is `Inconclusive`, whatever its numbers: they say nothing about
//! the chain. A mismatch between report and chain is always `Failed`.

use crate::{
    ensure::Check,
    report::{BenchmarkReport, Results, SENT_PERCENT},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a run is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The load was as scheduled, every threshold held, and the chain agrees.
    Passed,
    /// The load was as scheduled and a threshold did not hold, or the chain disagrees.
    Failed,
    /// The load was not as scheduled, or the chain could not be asked: the numbers are no result.
    Inconclusive,
}

/// How the run went, beside its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conduct {
    /// Whether somebody stopped it before its load was over.
    pub stopped_early: bool,
    /// The p99 send lag that the plan allows, in milliseconds.
    pub max_send_lag_ms: u64,
    /// How long it was kept from its CPUs by a quota during the load, in milliseconds; `None`: not known.
    pub throttled_ms: Option<u64>,
    /// How long the load was meant to take, in milliseconds.
    pub load_ms: u64,
    /// How far apart the clocks of its generators were, in milliseconds.
    pub clocks_apart_ms: u64,
}

/// A verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not `Passed`, or that nothing was asked of it.
    pub reasons: Vec<String>,
}

/// A run that was throttled for more than this share of its load, in percent, is inconclusive.
const THROTTLED_PERCENT: f64 = 1.0;

/// A schedule is shared by clocks that are no further apart, in milliseconds. The difference is known to half a second.
const CLOCKS_APART_MS: u64 = 1_000;

/// Judges a run.
pub fn judge(results: &Results, checks: &[Check], conduct: &Conduct) -> Judgement {
    let wrong = contradictions(results);
    let doubts = doubts(results, conduct);
    let broken: Vec<String> = checks.iter().filter(|check| !check.ok).map(broken).collect();
    let verdict = if !wrong.is_empty() {
        Verdict::Failed
    } else if !doubts.is_empty() {
        Verdict::Inconclusive
    } else if !broken.is_empty() {
        Verdict::Failed
    } else {
        Verdict::Passed
    };
    let mut reasons = [wrong, doubts, broken].concat();
    if verdict == Verdict::Passed && checks.is_empty() {
        reasons
            .push("no threshold is set (ensure.thresholds): the load was as scheduled and the chain agrees".to_owned());
    }
    Judgement { verdict, reasons }
}

/// Why a run did not pass, by what the reasons are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grounds<'a> {
    /// The audit: it does not match, or there was none.
    pub audit: &'a [String],
    /// The load: it was not as scheduled.
    pub load: &'a [String],
    /// The thresholds that did not hold.
    pub thresholds: &'a [String],
}

/// Tells the reasons of a report apart: they are in the order in which [`judge`] found them.
pub fn grounds(report: &BenchmarkReport) -> Grounds<'_> {
    if report.verdict == Verdict::Passed {
        return Grounds::default();
    }
    let broken = report.ensure.iter().filter(|check| !check.ok).count();
    let (rest, thresholds) = report.reasons.split_at(report.reasons.len().saturating_sub(broken));
    let (audit, load) = match report.results.audit {
        Some(audit) if audit.matches => (&[][..], rest),
        Some(_) => rest.split_at(rest.len().min(1)),
        None => {
            let (load, audit) = rest.split_at(rest.len().saturating_sub(1));
            (audit, load)
        }
    };
    Grounds { audit, load, thresholds }
}

fn contradictions(results: &Results) -> Vec<String> {
    let audit = results.audit.filter(|audit| !audit.matches);
    audit
        .map(|audit| {
            format!(
                "the chain disagrees with the report: {} transfers missing, {} doubled, {} contradicted, {} foreign transactions, supply {}",
                audit.missing,
                audit.doubled,
                audit.contradicted,
                audit.foreign,
                if audit.supply_conserved { "conserved" } else { "changed" },
            )
        })
        .into_iter()
        .collect()
}

fn doubts(results: &Results, conduct: &Conduct) -> Vec<String> {
    let mut doubts = Vec::new();
    let counts = &results.measures.counts;
    if conduct.stopped_early {
        doubts.push("the run was stopped before its load was over".to_owned());
    }
    let sent = counts.sent as f64 * 100.0 / counts.offered.max(1) as f64;
    if sent < SENT_PERCENT {
        doubts.push(format!(
            "{} of {} scheduled transfers were sent ({sent:.2} %, at least {} % are needed)",
            counts.sent, counts.offered, SENT_PERCENT,
        ));
    }
    if let Some(lag) = results.measures.latency_ms.send_lag.filter(|lag| lag.p99 > conduct.max_send_lag_ms as f64) {
        doubts.push(format!("p99 send lag was {:.0} ms, load.maxSendLag is {} ms", lag.p99, conduct.max_send_lag_ms));
    }
    let throttled = conduct.throttled_ms.unwrap_or(0) as f64 * 100.0 / conduct.load_ms.max(1) as f64;
    if throttled > THROTTLED_PERCENT {
        doubts.push(format!(
            "the CPU quota held the process back for {throttled:.1} % of the load, {THROTTLED_PERCENT} % are allowed"
        ));
    }
    if conduct.clocks_apart_ms > CLOCKS_APART_MS {
        doubts.push(format!(
            "the clocks of the generators were {} ms apart, {CLOCKS_APART_MS} ms are allowed: let their nodes follow one time",
            conduct.clocks_apart_ms
        ));
    }
    // The last: see `grounds`.
    if results.audit.is_none() {
        doubts.push("the chain was not audited".to_owned());
    }
    doubts
}

fn broken(check: &Check) -> String {
    let phase = check.phase.as_ref().map(|phase| format!(" in phase {phase}")).unwrap_or_default();
    let actual = check.actual.map_or("there is no data".to_owned(), |actual| format!("it is {actual:.2}"));
    format!("{}{phase} must be {}, and {actual}", check.metric, check.bound)
}
