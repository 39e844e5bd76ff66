//! What a record says.

use crate::{MS, S, ideal, ideal_results, observed, phases, results};
use nearbench_core::{
    measure::{Lately, OTHER, Recorder, TIMEOUT},
    report::{Limit, Observed, Results, Signals},
    schedule::Schedule,
};
use proptest::prelude::*;

#[test]
fn a_run_that_keeps_its_pace_has_the_rate_that_was_offered() {
    let results = ideal_results();
    let counts = results.measures.counts;
    assert_eq!(
        (counts.offered, counts.sent, counts.accepted, counts.included, counts.succeeded),
        (2_100, 2_100, 2_100, 2_100, 2_100)
    );
    assert_eq!((results.phases[0].measures.tps.mean, results.phases[1].measures.tps.mean), (10.0, 100.0));
    assert_eq!(results.measures.tps.mean, 100.0, "the run's is its longest phase's");
    assert_eq!(results.phases[1].measures.transactions_per_second.mean, 20.0);
    assert_eq!(results.measures.success_rate, Some(100.0));
    assert_eq!(results.measures.batch_size.unwrap().mean, 5.0);
    assert!((98.0..=108.0).contains(&results.measures.tps.peak), "{}", results.measures.tps.peak);
    assert_eq!(results.limited_by.what, Limit::Nothing);
}

#[test]
fn latencies_count_from_the_intended_arrival() {
    let latency = ideal_results().measures.latency_ms;
    let close =
        |actual: f64, expected: f64| assert!((actual - expected).abs() <= expected * 0.001, "{actual} and {expected}");
    close(latency.send_lag.unwrap().p99, 1.0);
    close(latency.accept.unwrap().p99, 2.0);
    close(latency.execution.unwrap().p50, 1_300.0);
    close(latency.settle.unwrap().max, 3_300.0);
}

#[test]
fn a_backlog_lowers_the_mean() {
    // Each transfer of the second phase waits a little longer than the one before: 20 s of load take 30 s of blocks.
    let schedule = Schedule::new(&phases());
    let late = ideal(&schedule, |n| 1_300 * MS + n.saturating_sub(100) * 5 * MS);
    let mean = results(&late).phases[1].measures.tps.mean;
    assert!((66.0..68.0).contains(&mean), "2000 transfers in 30 s, but {mean}/s");
}

#[test]
fn two_block_intervals_more_are_no_backlog() {
    let record = |span_ns: i64| {
        let mut record = Recorder::new(&Schedule::new(&phases()));
        for block_ns in [10 * S as i64, 10 * S as i64 + span_ns] {
            record.sent(1, 10 * S, 10 * S);
            record.accepted(1, 10 * S, 10 * S);
            record.succeeded(1, 10 * S, 11 * S, 12 * S, block_ns);
        }
        results(&record).phases[1].measures.tps.mean
    };
    let two_intervals = 2 * 600 * MS as i64;
    assert_eq!(record(20 * S as i64 + two_intervals), 2.0 / 20.0);
    assert_eq!(record(20 * S as i64 + two_intervals + 1), 2.0 / 21.200000001);
}

#[test]
fn the_peak_is_the_best_ten_seconds_by_block_time() {
    let mut record = Recorder::new(&Schedule::new(&phases()));
    // 30 in second 12, 50 in second 21, 20 in second 22: the best window, 13 to 22, has 70.
    for (second, times) in [(12, 30), (21, 50), (22, 20)] {
        for _ in 0..times {
            record.sent(1, 11 * S, 11 * S);
            record.accepted(1, 11 * S, 11 * S);
            record.succeeded(1, 11 * S, 24 * S, 25 * S, second * S as i64);
        }
    }
    let results = results(&record);
    assert_eq!(
        (results.measures.tps.peak, results.phases[1].measures.tps.peak, results.phases[0].measures.tps.peak),
        (8.0, 8.0, 0.0)
    );
}

#[test]
fn a_block_before_the_load_counts_as_its_first_moment() {
    let mut record = Recorder::new(&Schedule::new(&phases()));
    record.sent(0, 0, 0);
    record.accepted(0, 0, 0);
    record.succeeded(0, 0, S, 2 * S, -5);
    assert_eq!(results(&record).series[0].succeeded, 1);
}

#[test]
fn transfers_without_an_end_are_unknown() {
    let mut record = Recorder::new(&Schedule::new(&phases()));
    record.sent(1, 10 * S, 10 * S);
    record.accepted(1, 10 * S, 10 * S);
    let results = results(&record);
    assert_eq!((results.measures.counts.unknown, results.measures.counts.not_sent), (1, 2_099));
}

#[test]
fn a_transfer_that_ends_twice_gives_no_result() {
    let mut record = ideal(&Schedule::new(&phases()), |_| S);
    record.failed(1, 10 * S, "unregistered");
    assert!(Results::new(&record, ["warm", "sustain"], &observed()).is_err());
}

#[test]
fn errors_are_counted_by_a_bounded_number_of_labels() {
    let mut record = Recorder::new(&Schedule::new(&phases()));
    for n in 0..1_000 {
        record.error(Box::leak(format!("label-{n}").into_boxed_str()));
    }
    record.error(TIMEOUT);
    let errors = results(&record).errors;
    assert!(errors.len() <= 65);
    assert_eq!(errors[OTHER], 1_001 - 64);
}

#[test]
fn the_series_adds_up_to_the_counts() {
    let results = ideal_results();
    let sum = |of: fn(&nearbench_core::report::SeriesPoint) -> u64| results.series.iter().map(of).sum::<u64>();
    assert_eq!(sum(|point| point.offered), 2_100);
    assert_eq!(sum(|point| point.sent.into()), 2_100);
    assert_eq!(sum(|point| point.succeeded.into()), 2_100);
    assert_eq!(sum(|point| point.transactions.into()), 420);
}

#[test]
fn a_line_of_progress_says_where_the_run_stands() {
    let schedule = Schedule::new(&phases());
    let mut record = ideal(&schedule, |_| S);
    record.queue_depth(15 * S, 42);
    let live = record.live(15 * S);
    assert_eq!((live.phase, live.percent, live.offered, live.queue_depth), (1, 50.0, 600, 42));
    assert_eq!((live.succeeded, live.in_flight), (2_100, 0));
    // What settles in seconds 5 to 14 was due in seconds 2 to 11: 8 s at 10/s and 2 s at 100/s.
    assert_eq!(live.lately.tps, 28.0);
    assert_eq!(record.live(0).lately, Lately::default());
    assert_eq!((live.elapsed_ms, live.transactions, live.rejected), (15_000, 420, 0));
    // Each took three seconds.
    assert_eq!(live.lately.settle_mean_ms, Some(3_000.0));
    assert_eq!(live.lately.settle_max_ms, Some(3_000.0));
    assert_eq!(record.live(10_000 * S).percent, 100.0);
}

#[test]
fn what_limits_a_run_is_named_with_its_evidence() {
    let schedule = Schedule::new(&phases());
    let slow = ideal(&schedule, |n| S + n * 10 * MS);
    let limit = |record: &Recorder, signals: Signals| {
        let observed = Observed { signals, ..observed() };
        Results::new(record, ["warm", "sustain"], &observed).unwrap().limited_by
    };
    let none = Signals::default();
    assert_eq!(limit(&slow, Signals { chunk_fill: Some(95.0), lanes_full: Some(99.0), ..none }).what, Limit::Chain);
    assert_eq!(
        limit(&slow, Signals { endpoint_trouble: Some(20.0), lanes_full: Some(99.0), ..none }).what,
        Limit::Endpoint
    );
    assert_eq!(limit(&slow, Signals { store_wait: Some(60.0), lanes_full: Some(99.0), ..none }).what, Limit::Store);
    let keys = limit(&slow, Signals { lanes_full: Some(99.0), ..none });
    assert!(
        keys.what == Limit::Keys && keys.evidence.contains("99 %") && keys.evidence.contains("account.keys.count"),
        "{keys:?}"
    );
    assert_eq!(limit(&slow, none).what, Limit::Nothing);
    assert_eq!(limit(&ideal(&schedule, |_| S), Signals { chunk_fill: Some(95.0), ..none }).what, Limit::Nothing);
    assert_eq!(limit(&Recorder::new(&schedule), none).what, Limit::Generator);
}

/// What can happen to a transfer that was sent.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Rejected,
    UnderWay,
    Succeeded { after_ms: u64 },
    Failed,
    Cancelled,
    Expired,
    Unknown,
}

fn fates() -> impl Strategy<Value = Vec<(u16, u64, Fate)>> {
    let fate = prop_oneof![
        Just(Fate::Rejected),
        Just(Fate::UnderWay),
        (0u64..8_000_000).prop_map(|after_ms| Fate::Succeeded { after_ms }),
        Just(Fate::Failed),
        Just(Fate::Cancelled),
        Just(Fate::Expired),
        Just(Fate::Unknown),
    ];
    // No more than are offered: 100 in the first phase.
    prop::collection::vec((0u16..2, 0u64..30_000, fate), 0..100)
}

fn record(schedule: &Schedule, fates: &[(u16, u64, Fate)]) -> Recorder {
    let mut record = Recorder::new(schedule);
    for &(phase, intended_ms, fate) in fates {
        let at = intended_ms * MS;
        record.sent(phase, at, at + MS);
        if let Fate::Rejected = fate {
            record.rejected(phase, at);
            continue;
        }
        record.accepted(phase, at, at + MS);
        match fate {
            Fate::Succeeded { after_ms } => {
                let executed = at + after_ms * MS;
                record.succeeded(phase, at, executed, executed + S, executed as i64);
                record.attempt(phase, executed as i64, 1);
            }
            Fate::Failed => record.failed(phase, at, "unregistered"),
            Fate::Cancelled => record.cancelled(phase),
            Fate::Expired => record.expired(phase),
            Fate::Unknown => record.unknown(phase),
            Fate::UnderWay | Fate::Rejected => {}
        }
    }
    record
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_transfers_the_counts_add_up(fates in fates()) {
        let results = results(&record(&Schedule::new(&phases()), &fates));
        let mut sum = nearbench_core::counts::Counts::default();
        for phase in &results.phases {
            prop_assert_eq!(phase.measures.counts.check(), Ok(()));
            sum += phase.measures.counts;
        }
        prop_assert_eq!(results.measures.counts, sum);
        prop_assert_eq!(sum.offered, 2_100);
        prop_assert_eq!(sum.sent, fates.len() as u64);
        let succeeded = fates.iter().filter(|(_, _, fate)| matches!(fate, Fate::Succeeded { .. })).count();
        prop_assert_eq!(sum.succeeded, succeeded as u64);
    }

    #[test]
    fn records_of_parts_merge_into_the_record_of_the_whole(fates in fates(), cut in 0usize..100) {
        let schedule = Schedule::new(&phases());
        let cut = cut.min(fates.len());
        let mut merged = record(&schedule, &fates[..cut]);
        // As another process would tell it.
        let told = serde_json::to_vec(&record(&schedule, &fates[cut..]).recorded()).expect("a record has a JSON text");
        merged.merge(&serde_json::from_slice(&told).expect("the same record"));
        prop_assert_eq!(results(&merged), results(&record(&schedule, &fates)));
    }
}
