//! Two runs beside each other.

use crate::schema;
use nearbench_core::{
    compare::{Comparison, Finding, Outcome, Series, compare},
    plan::{Arrivals, Phase},
    report::{BenchmarkReport, PhaseResults, SeriesPoint},
    verdict::Verdict,
};
use proptest::prelude::*;
use std::sync::LazyLock;

/// A report to make others of.
static REPORT: LazyLock<BenchmarkReport> = LazyLock::new(schema::report);

/// A warm-up of 5 s and a steady phase whose seconds had these numbers of transfers and this latency, which also are the
/// means and percentiles of the whole.
fn run(seconds: &[u32], latency_ms: &[f64]) -> BenchmarkReport {
    let mut report =
        BenchmarkReport { verdict: Verdict::Passed, reasons: Vec::new(), ensure: Vec::new(), ..REPORT.clone() };
    let phases = [("warm", 0, 5_000), ("sustain", 5_000, seconds.len() as u64 * 1_000)];
    let planned = |(name, _, duration_ms): (&str, u64, u64)| Phase {
        name: name.to_owned(),
        duration_ms,
        arrivals: Arrivals::Rate(100.0),
        max_vusers: None,
    };
    report.plan.load.phases = phases.map(planned).into();
    let results = &mut report.results;
    let measured = |(name, start_ms, duration_ms): (&str, u64, u64)| PhaseResults {
        name: name.to_owned(),
        start_ms,
        duration_ms,
        measures: results.measures,
    };
    results.phases = phases.map(measured).into();
    let point = |second: usize, succeeded: u32, latency: f64| SeriesPoint {
        second: second as u32,
        succeeded,
        settle_mean_ms: Some(latency),
        settle_max_ms: Some(latency + 100.0),
        ..REPORT.results.series[0]
    };
    let warm = (0..5).map(|second| point(second, 1, 9_999.0));
    let steady = seconds.iter().zip(latency_ms).enumerate();
    results.series = warm.chain(steady.map(|(n, (succeeded, latency))| point(n + 5, *succeeded, *latency))).collect();
    let count = seconds.len().max(1) as f64;
    let latency = latency_ms.iter().sum::<f64>() / count;
    results.measures.tps.mean = f64::from(seconds.iter().sum::<u32>()) / count;
    let settle = results.measures.latency_ms.settle.as_mut().unwrap();
    (settle.p50, settle.p95, settle.p99) = (latency, latency + 90.0, latency + 100.0);
    report
}

fn even(seconds: usize) -> BenchmarkReport {
    run(&vec![100; seconds], &vec![2_000.0; seconds])
}

/// Seconds that differ as those of a real run do: blocks of the chain do not fall on seconds.
fn noisy(seconds: usize, around: u32, latency: f64) -> BenchmarkReport {
    let noise = |n: usize| (n * n * 37 % 23) as u32;
    let succeeded: Vec<u32> = (0..seconds).map(|n| around - 11 + noise(n)).collect();
    let latencies: Vec<f64> = (0..seconds).map(|n| latency + f64::from(noise(n))).collect();
    run(&succeeded, &latencies)
}

fn finding(comparison: &Comparison, measure: &str) -> Finding {
    comparison.changes.iter().find(|change| change.measure == measure).unwrap().finding
}

fn p(comparison: &Comparison, series: Series) -> Option<f64> {
    comparison.tests.iter().find(|test| test.series == series).unwrap().p
}

#[test]
fn a_loss_beyond_the_tolerance_is_a_regression_where_chance_does_not_explain_it() {
    let (base, new) = (noisy(120, 100, 2_000.0), noisy(120, 90, 2_000.0));
    let comparison = compare(&base, &new, 5.0);
    assert_eq!((comparison.outcome, finding(&comparison, "tps.mean")), (Outcome::Regression, Finding::Regression));
    assert!(p(&comparison, Series::Succeeded).unwrap() < 0.001);
    assert_eq!(compare(&base, &new, 15.0).outcome, Outcome::NoRegression, "within the tolerance");
    assert_eq!(compare(&new, &base, 5.0).outcome, Outcome::NoRegression, "better is no regression");
}

#[test]
fn a_loss_in_seconds_that_differ_as_much_anyway_may_be_chance() {
    // Blocks of ten that swing between nothing and everything.
    let swing = |shift: u32| -> Vec<u32> { (0..120).map(|n| if n / 10 % 2 == 0 { 20 } else { 180 - shift }).collect() };
    let latencies = [2_000.0; 120];
    let comparison = compare(&run(&swing(0), &latencies), &run(&swing(20), &latencies), 5.0);
    assert_eq!((comparison.outcome, finding(&comparison, "tps.mean")), (Outcome::NoRegression, Finding::Chance));
}

#[test]
fn with_too_few_blocks_the_tolerance_alone_decides() {
    // 59 seconds are six blocks, four of them neither first nor last; 50 are five.
    for (seconds, expected) in [(59, Finding::Regression), (50, Finding::UntestedRegression)] {
        let comparison = compare(&noisy(seconds, 100, 2_000.0), &noisy(seconds, 90, 2_000.0), 5.0);
        assert_eq!(finding(&comparison, "tps.mean"), expected, "{seconds}");
        assert_eq!(p(&comparison, Series::Succeeded).is_some(), expected == Finding::Regression);
    }
}

#[test]
fn only_the_inner_blocks_of_the_longest_steady_phase_are_compared() {
    let base = even(65);
    let mut new = base.clone();
    for point in &mut new.results.series {
        // The warm-up, the first block and the last, which is half a one.
        if point.second < 15 || point.second >= 65 {
            point.succeeded = 0;
        }
    }
    let comparison = compare(&base, &new, 5.0);
    let test = &comparison.tests[0];
    assert_eq!((test.base.blocks, test.new.blocks, test.p), (5, 5, Some(1.0)));
    assert_eq!((test.new.phase.as_deref(), test.new.mean), (Some("sustain"), Some(100.0)));

    let mut ramp = base.clone();
    ramp.plan.load.phases[1].arrivals = Arrivals::Ramp { from: 1.0, to: 100.0 };
    let test = &compare(&base, &ramp, 5.0).tests[0];
    assert_eq!((test.new.phase.as_deref(), test.new.blocks, test.p), (Some("warm"), 0, None));
}

#[test]
fn a_latency_is_judged_by_the_series_that_shows_it() {
    let base = noisy(120, 100, 2_000.0);
    let mut new = noisy(120, 100, 2_000.0);
    // The slowest became slower, and the mean stayed.
    for point in &mut new.results.series {
        point.settle_max_ms = point.settle_max_ms.map(|ms| ms + 900.0);
    }
    let settle = new.results.measures.latency_ms.settle.as_mut().unwrap();
    (settle.p50, settle.p99) = (settle.p50 + 900.0, settle.p99 + 900.0);
    let comparison = compare(&base, &new, 5.0);
    assert_eq!(finding(&comparison, "latencyMs.settle.p50"), Finding::Chance);
    assert_eq!(finding(&comparison, "latencyMs.settle.p95"), Finding::Held);
    assert_eq!(finding(&comparison, "latencyMs.settle.p99"), Finding::Regression);
}

#[test]
fn transfers_that_fail_are_counted_and_need_no_test() {
    let base = even(120);
    let mut new = base.clone();
    new.results.measures.success_rate = Some(94.9);
    let comparison = compare(&base, &new, 5.0);
    assert_eq!(finding(&comparison, "successRate"), Finding::UntestedRegression);
    new.results.measures.success_rate = Some(95.1);
    assert_eq!(compare(&base, &new, 5.0).outcome, Outcome::NoRegression);
}

#[test]
fn what_is_no_result_is_not_judged() {
    let (good, mut stopped, mut contradicted) = (even(120), even(120), even(120));
    stopped.verdict = Verdict::Inconclusive;
    stopped.reasons = vec!["it was stopped".to_owned()];
    stopped.results.measures.tps.mean = 1.0;
    for (base, new, which) in [(&good, &stopped, "new"), (&stopped, &good, "base")] {
        let comparison = compare(base, new, 5.0);
        assert_eq!(comparison.outcome, Outcome::NoResult);
        assert!(comparison.no_result[0].starts_with(which) && comparison.no_result[0].ends_with("it was stopped"));
        assert!(comparison.changes.iter().all(|change| change.finding == Finding::NotJudged));
    }
    contradicted.results.audit.as_mut().unwrap().matches = false;
    contradicted.verdict = Verdict::Failed;
    let comparison = compare(&good, &contradicted, 5.0);
    assert_eq!((comparison.outcome, comparison.contradicted), (Outcome::Regression, true));
    assert_eq!(compare(&contradicted, &good, 5.0).outcome, Outcome::NoResult, "nothing to measure by");
}

#[test]
fn a_number_that_came_from_nothing_is_beyond_any_tolerance() {
    let (mut base, mut new) = (even(40), even(40));
    base.results.measures.latency_ms.settle.as_mut().unwrap().p50 = 0.0;
    let comparison = compare(&base, &new, 1_000.0);
    assert_eq!(finding(&comparison, "latencyMs.settle.p50"), Finding::UntestedRegression);
    new.results.measures.latency_ms.settle = None;
    assert_eq!(finding(&compare(&base, &new, 5.0), "latencyMs.settle.p50"), Finding::NotJudged);
}

#[test]
fn what_was_asked_for_otherwise_is_named_field_by_field() {
    let base = even(20);
    let mut new = even(30);
    new.run.name = "another".to_owned();
    new.plan.name = "another".to_owned();
    new.plan.account.master_key_secret = Some("another-7".to_owned());
    new.plan.receivers.push("user-1.bench.test.near".parse().unwrap());
    new.plan.engine.batch.max = 100;
    new.plan.load.phases.remove(0);
    new.environment.machine.cpus = 4;
    new.environment.chain.block_time_ms = 1.0;
    new.environment.peak_rss_bytes = None;
    let comparison = compare(&base, &new, 5.0);
    let fields: Vec<&str> = comparison.plan.iter().map(|difference| &*difference.field).collect();
    assert_eq!(
        fields,
        ["engine.batch.max", "load.phases[0].durationMs", "load.phases[0].name", "load.phases[1]", "receivers"]
    );
    assert_eq!((&comparison.plan[0].base, &comparison.plan[0].new), (&20.into(), &100.into()));
    assert!(comparison.plan[3].new.is_null());
    let fields: Vec<&str> = comparison.environment.iter().map(|difference| &*difference.field).collect();
    assert_eq!(fields, ["machine.cpus"]);
}

#[test]
fn p_is_that_of_the_textbook() {
    // Blocks of ten equal seconds; t = 3.0125787 with 8.5294383 degrees of freedom, Student's density integrated.
    let blocks = |means: &[u32]| -> BenchmarkReport {
        let seconds: Vec<u32> = means.iter().flat_map(|mean| [*mean; 10]).collect();
        run(&seconds, &vec![1.0; seconds.len()])
    };
    let one = blocks(&[0, 20, 22, 19, 24, 25, 0]);
    let other = blocks(&[0, 28, 27, 30, 21, 33, 29, 0]);
    let p = p(&compare(&one, &other, 5.0), Series::Succeeded).unwrap();
    assert!((p - 0.015_565_000_479).abs() < 1e-9, "{p}");
}

/// A run of any length, with what varies in it.
fn any_run() -> impl Strategy<Value = (Vec<u32>, Vec<f64>)> {
    let second = (50u32..150, 1_000.0..3_000.0);
    prop::collection::vec(second, 1..200).prop_map(|seconds| seconds.into_iter().unzip())
}

proptest! {
    #[test]
    fn a_run_is_no_regression_beside_itself((seconds, latencies) in any_run(), tolerance in 0.0..20.0) {
        let report = run(&seconds, &latencies);
        let comparison = compare(&report, &report, tolerance);
        prop_assert_eq!(comparison.outcome, Outcome::NoRegression);
        prop_assert!(comparison.plan.is_empty() && comparison.environment.is_empty());
        prop_assert!(comparison.tests.iter().all(|test| test.p.is_none_or(|p| p == 1.0)));
    }

    #[test]
    fn what_is_worse_one_way_is_better_the_other(one in any_run(), other in any_run(), tolerance in 0.0..20.0) {
        let (one, other) = (run(&one.0, &one.1), run(&other.0, &other.1));
        let (there, back) = (compare(&one, &other, tolerance), compare(&other, &one, tolerance));
        for (there, back) in there.tests.iter().zip(&back.tests) {
            prop_assert_eq!(there.p, back.p);
            prop_assert!(there.p.is_none_or(|p| (0.0..=1.0).contains(&p)));
        }
        for (there, back) in there.changes.iter().zip(&back.changes) {
            prop_assert_eq!((there.base, there.new), (back.new, back.base));
            prop_assert!(!(there.finding.is_regression() && back.finding.is_regression()), "{:?}", there);
        }
    }

    #[test]
    fn a_greater_loss_is_never_less_of_a_regression(
        (seconds, latencies) in any_run(), less in 0u32..50, more in 0u32..50, tolerance in 0.0..20.0,
    ) {
        let (less, more) = (less.min(more), less.max(more));
        let base = run(&seconds, &latencies);
        let worse = |by: u32| {
            let seconds: Vec<u32> = seconds.iter().map(|succeeded| succeeded - by).collect();
            let latencies: Vec<f64> = latencies.iter().map(|latency| latency + f64::from(by) * 10.0).collect();
            compare(&base, &run(&seconds, &latencies), tolerance)
        };
        let (less, more) = (worse(less), worse(more));
        for (less, more) in less.changes.iter().zip(&more.changes) {
            prop_assert!(!less.finding.is_regression() || more.finding.is_regression(), "{:?} {:?}", less, more);
        }
        for (less, more) in less.tests.iter().zip(&more.tests) {
            prop_assert!(less.p.zip(more.p).is_none_or(|(less, more)| more <= less + 1e-9), "{:?} {:?}", less, more);
        }
    }
}
