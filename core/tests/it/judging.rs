//! Thresholds and verdicts.

use crate::{AUDIT, ideal_results, phases, results, schema};
use nearbench_core::{
    audit::Audit,
    ensure::{Check, Metric, evaluate},
    measure::Recorder,
    plan::{Ensure, Threshold},
    report::{BenchmarkReport, Results},
    schedule::Schedule,
    verdict::{Conduct, Grounds, Verdict, grounds, judge},
};

const CONDUCT: Conduct = Conduct {
    stopped_early: false,
    max_send_lag_ms: 1_000,
    throttled_ms: Some(0),
    load_ms: 30_000,
    clocks_apart_ms: 0,
};

fn threshold(metric: &str, phase: Option<&str>, min: Option<f64>, max: Option<f64>) -> Ensure {
    let threshold = Threshold { metric: metric.parse().unwrap(), phase: phase.map(str::to_owned), min, max };
    Ensure { thresholds: vec![threshold], max_error_rate: None }
}

fn check(results: &Results, metric: &str, phase: Option<&str>, min: Option<f64>, max: Option<f64>) -> Check {
    evaluate(&threshold(metric, phase, min, max), results).remove(0)
}

#[test]
fn every_metric_is_named_by_its_path_in_the_results() {
    let results = serde_json::to_value(ideal_results()).unwrap();
    for metric in Metric::all() {
        assert_eq!(metric.to_string().parse(), Ok(metric));
        let derived = matches!(metric, Metric::Transfers | Metric::ErrorRate | Metric::Timeouts | Metric::Errors);
        let found = metric.to_string().split('.').try_fold(&results, |value, part| value.get(part));
        assert!(derived || found.is_some_and(|value| value.is_number()), "{metric}");
    }
}

#[test]
fn every_metric_of_a_good_run_has_a_value() {
    for metric in Metric::all() {
        let actual = check(&ideal_results(), &metric.to_string(), None, Some(0.0), None).actual;
        assert!(actual.is_some(), "{metric}");
    }
}

#[test]
fn bounds_hold_at_their_very_value() {
    let results = ideal_results();
    for (phase, min, max, ok) in [
        (Some("sustain"), Some(100.0), None, true),
        (Some("sustain"), Some(100.1), None, false),
        (Some("sustain"), None, Some(100.0), true),
        (Some("sustain"), None, Some(99.9), false),
        (Some("warm"), Some(100.0), None, false),
        (None, Some(100.0), None, true),
    ] {
        let check = check(&results, "tps.mean", phase, min, max);
        assert_eq!(check.ok, ok, "{check:?}");
    }
}

#[test]
fn a_metric_without_data_fails_whatever_its_bound() {
    let nothing = results(&Recorder::new(&Schedule::new(&phases())));
    for metric in Metric::all().filter(|metric| *metric != Metric::Restarts) {
        let check = check(&nothing, &metric.to_string(), None, Some(0.0), None);
        assert!(!check.ok && check.actual.is_none(), "{check:?}");
    }
    assert!(!check(&ideal_results(), "tps.mean", Some("nowhere"), Some(0.0), None).ok);
    assert!(!check(&ideal_results(), "errors.timeout", Some("warm"), None, Some(0.0)).ok, "errors have no phase");
}

#[test]
fn the_error_rate_is_that_of_all_offered_transfers() {
    let schedule = Schedule::new(&phases());
    let mut record = Recorder::new(&schedule);
    for arrival in schedule.arrivals(0, 1) {
        let at = arrival.intended_ns;
        record.sent(arrival.phase, at, at);
        record.accepted(arrival.phase, at, at);
        match arrival.n % 10 {
            0 => record.failed(arrival.phase, at, "unregistered"),
            _ => record.succeeded(arrival.phase, at, at, at, at as i64),
        }
    }
    let ensure = |max_error_rate| Ensure { thresholds: Vec::new(), max_error_rate: Some(max_error_rate) };
    assert!(evaluate(&ensure(10.0), &results(&record))[0].ok);
    assert!(!evaluate(&ensure(9.9), &results(&record))[0].ok);
}

#[test]
fn a_good_run_passes() {
    let results = ideal_results();
    let checks = evaluate(&threshold("tps.mean", Some("sustain"), Some(100.0), None), &results);
    let judgement = judge(&results, &checks, &CONDUCT);
    assert_eq!((judgement.verdict, judgement.reasons), (Verdict::Passed, Vec::new()));
}

#[test]
fn a_run_that_passes_without_any_threshold_says_so() {
    let judgement = judge(&ideal_results(), &[], &CONDUCT);
    assert_eq!((judgement.verdict, judgement.reasons.len()), (Verdict::Passed, 1));
    assert!(judgement.reasons[0].contains("no threshold is set"), "{:?}", judgement.reasons);
}

#[test]
fn a_broken_threshold_fails_a_run_and_is_named() {
    let results = ideal_results();
    let checks = evaluate(&threshold("tps.mean", Some("sustain"), Some(200.0), None), &results);
    let judgement = judge(&results, &checks, &CONDUCT);
    assert_eq!(judgement.verdict, Verdict::Failed);
    assert_eq!(judgement.reasons, ["tps.mean in phase sustain must be >= 200, and it is 100.00"]);
}

#[test]
fn a_load_that_was_not_as_scheduled_is_inconclusive_even_with_broken_thresholds() {
    let good = ideal_results();
    let mut unsent = good.clone();
    unsent.measures.counts.sent -= 3;
    let mut late = good.clone();
    late.measures.latency_ms.send_lag.as_mut().unwrap().p99 = 1_000.1;
    let mut unaudited = good.clone();
    unaudited.audit = None;
    let cases = [
        (&good, Conduct { stopped_early: true, ..CONDUCT }),
        (&good, Conduct { throttled_ms: Some(301), ..CONDUCT }),
        (&good, Conduct { clocks_apart_ms: 1_001, ..CONDUCT }),
        (&unsent, CONDUCT),
        (&late, CONDUCT),
        (&unaudited, CONDUCT),
    ];
    for (results, conduct) in cases {
        let checks = evaluate(&threshold("tps.mean", None, Some(200.0), None), results);
        let judgement = judge(results, &checks, &conduct);
        assert_eq!((judgement.verdict, judgement.reasons.len()), (Verdict::Inconclusive, 2), "{:?}", judgement.reasons);
    }
}

#[test]
fn the_reasons_of_a_report_are_told_apart_by_what_they_are_about() {
    let good = ideal_results();
    let mut contradicted = good.clone();
    contradicted.audit.as_mut().unwrap().matches = false;
    let mut unaudited = good.clone();
    unaudited.audit = None;
    for (results, at_least, lengths) in [
        (&good, 100.0, [0, 0, 0]),
        (&good, 200.0, [0, 1, 1]),
        (&contradicted, 100.0, [1, 1, 0]),
        (&contradicted, 200.0, [1, 1, 1]),
        (&unaudited, 200.0, [1, 1, 1]),
    ] {
        let checks = evaluate(&threshold("tps.mean", None, Some(at_least), None), results);
        let conduct = Conduct { stopped_early: lengths != [0; 3], ..CONDUCT };
        let judgement = judge(results, &checks, &conduct);
        let report = BenchmarkReport {
            results: results.clone(),
            ensure: checks,
            verdict: judgement.verdict,
            reasons: judgement.reasons,
            ..schema::report()
        };
        let Grounds { audit, load, thresholds } = grounds(&report);
        assert_eq!([audit.len(), load.len(), thresholds.len()], lengths, "{:?}", report.reasons);
        assert!(audit.iter().all(|reason| reason.contains("the chain")), "{audit:?}");
        assert!(load.iter().all(|reason| reason.contains("stopped")), "{load:?}");
        assert!(thresholds.iter().all(|reason| reason.contains("tps.mean")), "{thresholds:?}");
    }
}

#[test]
fn as_little_as_a_thousandth_may_be_unsent() {
    let mut results = ideal_results();
    results.measures.counts.sent -= 2;
    assert_eq!(judge(&results, &[], &CONDUCT).verdict, Verdict::Passed);
}

#[test]
fn a_chain_that_disagrees_fails_a_run_whatever_else() {
    let mut results = ideal_results();
    results.audit = Some(Audit { matches: false, doubled: 1, ..AUDIT });
    let judgement = judge(&results, &[], &Conduct { stopped_early: true, ..CONDUCT });
    assert_eq!(judgement.verdict, Verdict::Failed);
    assert!(judgement.reasons[0].contains("1 doubled"));
}
