//! What a record says.

use crate::{MS, S, ideal, ideal_results, observed, phases, results};
use nearbench_core::{
    evidence::{Endings, Evidence, LaneTime, Served},
    histogram::Coarse,
    measure::{Lately, OTHER, Recorder, TIMEOUT},
    plan::Endpoint,
    report::{EndpointResults, Limit, Observed, Results, Signals},
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
    let limit = |record: &Recorder, chunk_fill, signals: Signals| {
        let observed = Observed { signals, chunk_fill, ..observed() };
        Results::new(record, ["warm", "sustain"], &observed).unwrap().limited_by
    };
    let mut steps = Coarse::default();
    (0..100).for_each(|_| steps.record_ns(800 * MS));
    let none = Signals::default();
    // Each is told though all that come after it show too.
    let keys = Signals { lanes_full: Some(50.0), lanes_idle: Some(3.0), ..none };
    let store = Signals { store_wait: Some(63.0), store_latency_ms: steps.summary(), ..keys };
    let breaker = Signals { breaker_open: Some(12.0), breaker_open_ms: Some(2_400), ..store };
    let trouble = Signals { endpoint_trouble: Some(20.0), ..breaker };
    for (chunk_fill, signals, expected, told) in [
        (Some(95.0), trouble, Limit::Chain, &["95 %"][..]),
        (Some(74.9), trouble, Limit::Endpoint, &["20 %"]),
        (None, Signals { endpoint_trouble: Some(4.9), ..breaker }, Limit::Endpoint, &["12 %", "2400 ms", "breaker"]),
        (
            None,
            Signals { breaker_open: Some(9.9), ..store },
            Limit::Store,
            &["63 %", "its steps took 802.8 ms, p99 802.8 ms"],
        ),
        (None, Signals { store_wait: Some(63.0), ..none }, Limit::Store, &["63 % of the lanes' time"]),
        (
            None,
            Signals { store_wait: Some(49.9), ..keys },
            Limit::Keys,
            &["50 %", "3 % of the lanes' time", "account.keys.count"],
        ),
        (None, Signals { lanes_full: Some(49.9), ..keys }, Limit::Nothing, &["3 % of the lanes' time"]),
        (None, none, Limit::Nothing, &["nothing that is measured explains it"]),
    ] {
        let limit = limit(&slow, chunk_fill, signals);
        assert_eq!(limit.what, expected, "{limit:?}");
        assert!(told.iter().all(|told| limit.evidence.contains(told)), "{told:?}: {limit:?}");
    }
    assert_eq!(limit(&ideal(&schedule, |_| S), Some(95.0), trouble).what, Limit::Nothing);
    assert_eq!(limit(&Recorder::new(&schedule), None, none).what, Limit::Generator);
}

#[test]
fn signals_are_shares_of_what_was_measured_and_absent_where_nothing_was() {
    assert_eq!(Signals::from(&Evidence::default()), Signals::default());
    let served = |refused, failed| Served {
        endings: Endings { ok: 90, refused, failed, ..Endings::default() },
        ..Served::default()
    };
    let mut one = Evidence {
        elapsed_ns: 10 * S,
        looks: 10,
        full: 1,
        lanes: LaneTime { total_ns: 40 * S, idle_ns: 10 * S, store_ns: 8 * S },
        open_ns: 2 * S,
        endpoints: [("a".to_owned(), served(6, 4)), ("b".to_owned(), served(0, 0))].into(),
        ..Evidence::default()
    };
    one.store.record_ns(2 * MS);
    let signals = Signals::from(&one);
    assert_eq!((signals.lanes_idle, signals.store_wait, signals.lanes_full), (Some(25.0), Some(20.0), Some(10.0)));
    assert_eq!((signals.breaker_open, signals.breaker_open_ms), (Some(20.0), Some(2_000)));
    assert_eq!(signals.endpoint_trouble, Some(1_000.0 / 190.0));
    assert!((signals.store_latency_ms.unwrap().mean - 2.0).abs() < 0.1);
    // Another worker that measured the same changes no share.
    one.merge(&one.clone());
    assert_eq!(Signals::from(&one), Signals { breaker_open_ms: Some(4_000), ..signals });
}

#[test]
fn each_endpoint_of_the_plan_has_its_numbers_and_no_other() {
    let mut plan = crate::schema::report().plan;
    let served = |times: u64, latency: &[u64]| {
        let mut served =
            Served { endings: Endings { ok: times, timeout: 1, ..Endings::default() }, ..Served::default() };
        latency.iter().for_each(|ms| served.latency.record_ns(ms * MS));
        Served { open_ns: 3 * S, times_opened: 2, ..served }
    };
    let endpoints =
        [("http://b", served(7, &[10, 10, 10])), ("http://a", served(2, &[])), ("http://x", served(9, &[]))];
    let evidence = Evidence {
        elapsed_ns: 30 * S,
        endpoints: endpoints.map(|(name, served)| (name.to_owned(), served)).into(),
        ..Evidence::default()
    };
    let own = EndpointResults::of(&plan, &evidence);
    assert_eq!(
        (own.len(), &*own[0].url, own[0].requests),
        (1, "devnet of the run", 21),
        "by whatever name it is known"
    );
    assert_eq!(EndpointResults::of(&plan, &Evidence::default()), []);
    plan.network.endpoints = ["http://a", "http://b", "http://never"]
        .map(|url| Endpoint { url: url.into(), priority: 0, max_requests_per_second: None, auth_secret: None })
        .into();
    let named = EndpointResults::of(&plan, &evidence);
    let told: Vec<_> = named.iter().map(|endpoint| (&*endpoint.url, endpoint.requests)).collect();
    assert_eq!(told, [("http://a", 3), ("http://b", 8), ("http://never", 0)]);
    let b = &named[1];
    assert_eq!((b.endings.timeout, b.breaker_open_ms, b.breaker_open, b.times_opened), (1, 3_000, Some(10.0), 2));
    assert!((b.latency_ms.unwrap().p99 - 10.0).abs() < 0.4 && named[2].latency_ms.is_none());
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
