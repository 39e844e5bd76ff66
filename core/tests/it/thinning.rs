//! Series with fewer points.

use crate::schema;
use nearbench_core::{
    compare::{Outcome, compare},
    plan::Arrivals,
    report::{BenchmarkReport, MOST_POINTS, SeriesPoint, folded},
    verdict::Verdict,
};
use proptest::prelude::*;
use std::sync::LazyLock;

/// A report to make others of.
static REPORT: LazyLock<BenchmarkReport> = LazyLock::new(schema::report);

prop_compose! {
    fn point()(counts in any::<[u16; 8]>(), depth in any::<u32>(), latency in prop::option::of((1.0..1e4, 0.0..1e4))) -> SeriesPoint {
        let [offered, sent, accepted, rejected, succeeded, failed, transactions, settled] = counts.map(u32::from);
        SeriesPoint {
            second: 0,
            offered: offered.into(),
            sent, accepted, rejected, succeeded, failed, transactions,
            settled: if latency.is_some() { settled.max(1) } else { 0 },
            settle_mean_ms: latency.map(|(mean, _)| mean),
            settle_max_ms: latency.map(|(mean, more)| mean + more),
            queue_depth: depth.into(),
        }
    }
}

fn series(points: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<SeriesPoint>> {
    prop::collection::vec(point(), points).prop_map(|mut points| {
        (0..).zip(&mut points).for_each(|(second, point)| point.second = second);
        points
    })
}

/// What no folding may change: all that was counted, the longest and the deepest, and all settle latencies together.
fn totals(series: &[SeriesPoint]) -> ([u64; 8], u64, Option<f64>, f64) {
    let sum = |of: fn(&SeriesPoint) -> u64| series.iter().map(of).sum::<u64>();
    let counts = [
        sum(|point| point.offered),
        sum(|point| point.sent.into()),
        sum(|point| point.accepted.into()),
        sum(|point| point.rejected.into()),
        sum(|point| point.succeeded.into()),
        sum(|point| point.failed.into()),
        sum(|point| point.transactions.into()),
        sum(|point| point.settled.into()),
    ];
    let deepest = series.iter().map(|point| point.queue_depth).max().unwrap_or(0);
    let longest = series.iter().filter_map(|point| point.settle_max_ms).reduce(f64::max);
    let settled = series.iter().filter_map(|point| Some(point.settle_mean_ms? * f64::from(point.settled))).sum();
    (counts, deepest, longest, settled)
}

fn with(series: Vec<SeriesPoint>) -> BenchmarkReport {
    let mut report = REPORT.clone();
    report.results.series = series;
    report
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_was_counted_is_lost(series in series(0..400), step in 1u32..50) {
        let folded = folded(&series, step);
        let (before, after) = (totals(&series), totals(&folded));
        prop_assert_eq!((before.0, before.1, before.2), (after.0, after.1, after.2));
        prop_assert!((before.3 - after.3).abs() <= before.3 * 1e-9, "{} and {}", before.3, after.3);
        prop_assert!(folded.iter().all(|point| point.second % step == 0));
        prop_assert!(folded.windows(2).all(|two| two[0].second < two[1].second));
        prop_assert_eq!(folded.len(), series.len().div_ceil(step as usize));
    }

    #[test]
    fn to_fold_twice_is_to_fold_once(series in series(0..200), one in 1u32..8, other in 1u32..8) {
        let (twice, once) = (folded(&folded(&series, one), one * other), folded(&series, one * other));
        prop_assert_eq!(totals(&twice).0, totals(&once).0);
        for (twice, once) in twice.iter().zip(&once) {
            let mean = |point: &SeriesPoint| point.settle_mean_ms.unwrap_or(0.0);
            prop_assert!((mean(twice) - mean(once)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_thinned_report_has_at_most_a_thousand_points_and_says_what_they_stand_for(series in series(1..3_500)) {
        let report = with(series);
        let thin = report.clone().thinned();
        let (step, points) = (thin.results.series_step_seconds, thin.results.series.len());
        prop_assert!(points <= MOST_POINTS as usize);
        prop_assert_eq!(step as usize, report.results.series.len().div_ceil(MOST_POINTS as usize), "as fine as may be");
        if step == 1 {
            prop_assert_eq!(&thin, &report);
        }
        prop_assert_eq!(totals(&thin.results.series).0, totals(&report.results.series).0);
        let text = serde_json::to_string(&thin).unwrap();
        let read: BenchmarkReport = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.results.series_step_seconds, step);
        prop_assert_eq!(thin.clone().thinned(), thin, "it stays as it is");
    }
}

#[test]
fn of_a_series_that_does_not_tell_how_many_settled_every_second_counts_alike() {
    let point = |second, mean| SeriesPoint { second, settled: 0, settle_mean_ms: mean, ..REPORT.results.series[0] };
    let series = [point(0, Some(1.0)), point(1, None), point(2, Some(5.0)), point(3, Some(6.0))];
    assert_eq!(folded(&series, 4)[0].settle_mean_ms, Some(4.0));
}

/// A run of one steady phase that begins at second 7, whose rate was this.
fn steady(seconds: u32, rate: u32) -> BenchmarkReport {
    let noise = |n: u32| (n % 23) * (n % 23) * 37 % 23;
    let mut report = with(
        (0..seconds + 7)
            .map(|second| SeriesPoint { second, succeeded: rate - 11 + noise(second), ..REPORT.results.series[0] })
            .collect(),
    );
    (report.verdict, report.reasons, report.ensure) = (Verdict::Passed, Vec::new(), Vec::new());
    report.plan.load.phases[1].arrivals = Arrivals::Rate(f64::from(rate));
    let sustain = &mut report.results.phases[1];
    (sustain.start_ms, sustain.duration_ms) = (7_000, u64::from(seconds) * 1_000);
    report.results.measures.tps.mean = f64::from(rate);
    report
}

#[test]
fn a_thinned_report_compares_with_a_whole_one_as_both_would_whole() {
    for (base_seconds, new_seconds) in [(2_500, 900), (900, 2_500), (2_500, 3_600), (3_600, 13_000)] {
        let base = steady(base_seconds, 100);
        for (rate, outcome) in [(100, Outcome::NoRegression), (80, Outcome::Regression)] {
            let new = steady(new_seconds, rate);
            let whole = compare(&base, &new, 5.0);
            let thin = compare(&base.clone().thinned(), &new.clone().thinned(), 5.0);
            assert_eq!((whole.outcome, thin.outcome), (outcome, outcome));
            let step = u64::from(base.clone().thinned().results.series_step_seconds);
            assert!(thin.block_seconds >= 10 && thin.block_seconds.is_multiple_of(step), "{}", thin.block_seconds);
            let (whole, thin) = (&whole.tests[0], &thin.tests[0]);
            assert!((whole.new.mean.unwrap() - thin.new.mean.unwrap()).abs() < 0.5, "{whole:?} {thin:?}");
        }
    }
}

#[test]
fn runs_known_by_different_steps_are_taken_by_one_that_both_have() {
    let run = steady(600, 100);
    let folded_by = |step| {
        let mut run = run.clone();
        run.results.series = folded(&run.results.series, step);
        run.results.series_step_seconds = step;
        run
    };
    let comparison = compare(&folded_by(4), &folded_by(6), 5.0);
    assert_eq!((comparison.block_seconds, comparison.outcome), (12, Outcome::NoRegression));
    assert_eq!(comparison.tests[0].base, comparison.tests[0].new);
}
