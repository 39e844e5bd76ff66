//! The status as a value: conditions, and what a report becomes in it.

use crate::names::{conditions, reasons};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use nearbench_core::{
    Plan,
    lifecycle::Stage,
    report::{BenchmarkReport, Results},
    schedule::target_rate,
    standing::Figures,
    verdict::Verdict,
};
use nearbench_crds::{BenchmarkRunStatus, RunPhase, RunVerdict, Summary};

/// A condition's value.
pub(crate) enum Is {
    True,
    False,
}

/// Sets a condition. Its transition time changes only with its value.
pub(crate) fn set(
    status: &mut BenchmarkRunStatus,
    type_: &str,
    value: Is,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) {
    let value = match value {
        Is::True => "True",
        Is::False => "False",
    };
    let condition = Condition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: bounded(message.into()),
        observed_generation: status.observed_generation,
        last_transition_time: Time(now),
    };
    match status.conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(known) => {
            let since = if known.status == value { known.last_transition_time.clone() } else { Time(now) };
            *known = Condition { last_transition_time: since, ..condition };
        }
        None => status.conditions.push(condition),
    }
}

/// A text that fits a condition.
fn bounded(mut text: String) -> String {
    const MAX: usize = 1_000;
    if text.len() > MAX {
        let end = (0..=MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether a condition is true; `None` where it was never set.
pub(crate) fn is_true(status: &BenchmarkRunStatus, type_: &str) -> Option<bool> {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map(|condition| condition.status == "True")
}

/// The phase that users see a run in.
pub(crate) fn phase(stage: Stage) -> RunPhase {
    match stage {
        Stage::Pending => RunPhase::Pending,
        Stage::Provisioning | Stage::Held => RunPhase::Provisioning,
        Stage::Running => RunPhase::Running,
        Stage::Draining => RunPhase::Draining,
        Stage::Auditing | Stage::Reporting => RunPhase::Auditing,
        Stage::CleaningUp | Stage::Finished => RunPhase::CleaningUp,
    }
}

/// Ends a run with what its report says.
pub(crate) fn finish_with(status: &mut BenchmarkRunStatus, report: BenchmarkReport, now: Timestamp) {
    use conditions::{AUDITED, LOAD_COMPLETED, SETTLED, THRESHOLDS_MET};
    let BenchmarkReport { plan, results, ensure, verdict, reasons, .. } = report;
    let (verdict, reason) = match verdict {
        Verdict::Passed => (RunVerdict::Passed, reasons::PASSED),
        Verdict::Failed => (RunVerdict::Failed, reasons::FAILED),
        Verdict::Inconclusive => (RunVerdict::Inconclusive, reasons::INCONCLUSIVE),
    };
    let counts = results.measures.counts;
    let of = |holds: bool| if holds { Is::True } else { Is::False };
    // Keys that were ready may be off the account by now.
    for reached in [conditions::PROVISIONED, conditions::KEYS_READY, conditions::NONCES_SEEDED] {
        if is_true(status, reached).is_none() {
            set(status, reached, Is::True, reasons::DONE, "", now);
        }
    }
    let sent = format!("{} of {} transfers were sent", counts.sent, counts.offered);
    set(status, LOAD_COMPLETED, of(counts.not_sent == 0), reasons::DONE, sent, now);
    let unknown = format!("{} of {} accepted transfers have no proven end", counts.unknown, counts.accepted);
    set(status, SETTLED, of(counts.unknown == 0), reasons::DONE, unknown, now);
    match results.audit {
        Some(audit) => {
            let found = format!(
                "{} transfers found on chain, {} missing, {} doubled, {} foreign",
                audit.transfers_found, audit.missing, audit.doubled, audit.foreign
            );
            set(status, AUDITED, of(audit.matches), reasons::DONE, found, now);
        }
        None => set(status, AUDITED, Is::False, reasons::NOT_REACHED, "the chain was not searched", now),
    }
    let held = ensure.iter().filter(|check| check.ok).count();
    let thresholds = format!("{held} of {} thresholds held", ensure.len());
    set(status, THRESHOLDS_MET, of(held == ensure.len()), reasons::DONE, thresholds, now);

    let message = if reasons.is_empty() {
        format!(
            "{} of {} transfers succeeded, {:.2} a second",
            counts.succeeded, counts.offered, results.measures.tps.mean
        )
    } else {
        reasons.join("; ")
    };
    if let Some(progress) = &mut status.progress {
        progress.offered = counts.offered;
        progress.succeeded = counts.succeeded;
        // Nothing is on its way any more, and what was of late is long ago.
        progress.figures = Figures {
            elapsed_ms: progress.figures.elapsed_ms,
            accepted: counts.accepted,
            rejected: counts.rejected,
            failed: counts.failed,
            transactions: progress.figures.transactions,
            settle: results.measures.latency_ms.settle,
            ..Figures::default()
        };
    }
    status.summary = Some(summary(&plan, &results));
    status.results =
        Some(Results { series: Vec::new(), series_step_seconds: 1, latency_distribution: Vec::new(), ..results });
    status.ensure = ensure;
    finish(status, verdict, reason, message, now);
}

/// Ends a run.
pub(crate) fn finish(
    status: &mut BenchmarkRunStatus,
    verdict: RunVerdict,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) {
    let message = message.into();
    set(status, conditions::COMPLETE, Is::True, reason, message.clone(), now);
    if is_true(status, conditions::WORKERS_READY).is_some() {
        let (reason, said) = match verdict {
            RunVerdict::Error => (reason, message.as_str()),
            _ => (reasons::ENDED, "the run is over"),
        };
        let (reason, said) = (reason.to_owned(), said.to_owned());
        set(status, conditions::WORKERS_READY, Is::False, &reason, said, now);
    }
    if let Some(workers) = &mut status.workers {
        workers.ready = 0;
    }
    status.phase = Some(RunPhase::Finished);
    status.verdict = Some(verdict);
    status.reason = Some(reason.to_owned());
    status.message = Some(message);
    status.completion_time = Some(Time(now));
}

/// The columns of `kubectl get benchmarkruns`.
pub fn summary(plan: &Plan, results: &Results) -> Summary {
    let measures = &results.measures;
    let seconds = |ms: f64| format!("{:.2}s", ms / 1_000.0);
    let settle = measures.latency_ms.settle;
    Summary {
        tps: format!("{:.2}", measures.tps.mean),
        target: target(plan),
        success: measures.success_rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}%")),
        p95: settle.map_or_else(|| "-".to_owned(), |latency| seconds(latency.p95)),
        p99: settle.map_or_else(|| "-".to_owned(), |latency| seconds(latency.p99)),
        audit: match results.audit {
            Some(audit) if audit.matches => "matches",
            Some(_) => "DIFFERS",
            None => "none",
        }
        .to_owned(),
        transfers: measures.counts.succeeded.to_string(),
    }
}

/// What a run aims at, for the columns.
pub(crate) fn target(plan: &Plan) -> String {
    target_rate(&plan.load.phases).to_string()
}
