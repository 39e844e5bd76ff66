//! The rules of a run, from outside: records become results, results are judged, and the report has its schema.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod comparing;
mod judging;
mod lifecycle;
mod recording;
mod schema;
mod thinning;

use nearbench_core::{
    audit::Audit,
    measure::Recorder,
    plan::{Arrivals, Phase},
    report::{Observed, Results},
    schedule::Schedule,
};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

/// A warm-up of 10 s at 10/s and 20 s at 100/s.
fn phases() -> Vec<Phase> {
    [("warm", 10_000, 10.0), ("sustain", 20_000, 100.0)]
        .map(|(name, duration_ms, rate)| Phase {
            name: name.into(),
            duration_ms,
            arrivals: Arrivals::Rate(rate),
            max_vusers: None,
        })
        .into()
}

const AUDIT: Audit = Audit {
    matches: true,
    transfers_found: 2_100,
    missing: 0,
    doubled: 0,
    foreign: 0,
    contradicted: 0,
    receivers: 5,
    wrong_balances: 0,
    supply_conserved: true,
};

fn observed() -> Observed {
    Observed { block_time_ms: 600.0, max_send_lag_ms: 1_000, audit: Some(AUDIT), ..Default::default() }
}

/// A record of `schedule` in which every transfer is sent 1 ms late, accepted after 2, executed after `execution`,
/// settled 2 s later, and executed by the block of its execution time, blocks being 600 ms apart, in batches of 5.
fn ideal(schedule: &Schedule, execution_ns: impl Fn(u64) -> u64) -> Recorder {
    let mut record = Recorder::new(schedule);
    for arrival in schedule.arrivals(0, 1) {
        let at = arrival.intended_ns;
        record.sent(arrival.phase, at, at + MS);
        record.accepted(arrival.phase, at, at + 2 * MS);
        let executed = at + execution_ns(arrival.n);
        let block = (executed / (600 * MS) * 600 * MS) as i64;
        record.succeeded(arrival.phase, at, executed, executed + 2 * S, block);
        if arrival.n % 5 == 0 {
            record.attempt(arrival.phase, block, 5);
        }
    }
    record
}

fn results(record: &Recorder) -> Results {
    Results::new(record, phases().iter().map(|phase| phase.name.as_str()), &observed()).unwrap()
}

fn ideal_results() -> Results {
    results(&ideal(&Schedule::new(&phases()), |_| 1_300 * MS))
}
