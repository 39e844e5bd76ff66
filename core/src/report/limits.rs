//! What kept a run from being faster, by rules that name their evidence.

use super::{Measures, Observed};
use crate::schedule::Schedule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kept a run from being faster, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitedBy {
    /// What.
    pub what: Limit,
    /// The numbers that say so.
    pub evidence: String,
}

/// What can keep a run from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The load generator did not keep its own schedule.
    Generator,
    /// Every lane had as many transactions under way as it may have.
    Keys,
    /// The store was waited for.
    Store,
    /// The RPC endpoints refused, failed or were slow.
    Endpoint,
    /// The chain's blocks were full.
    Chain,
    /// The run was as fast as it was asked to be, or nothing measured explains it.
    Nothing,
}

/// Where time was lost while the load ran, each in percent; `None`: not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// Of the load's time: transfers waited while every lane was full.
    pub lanes_full: Option<f64>,
    /// Of the engine's time: spent waiting for the store.
    pub store_wait: Option<f64>,
    /// Of requests to endpoints: refused (429), failed (5xx, reset) or timed out.
    pub endpoint_trouble: Option<f64>,
    /// Of the chunks' gas limit: used, on average.
    pub chunk_fill: Option<f64>,
}

/// A generator that sent less than this share of its schedule, in percent, fell behind.
pub(crate) const SENT_PERCENT: f64 = 99.9;
/// A longest phase that reached this share of what it was offered, in percent, was not limited.
const REACHED_PERCENT: f64 = 99.0;
/// Calculated from what a node was measured to do: chunks that take no more hold transfers of 77 % (batches of 20) to 90 %
/// (unbatched) of their gas
/// limit. They are bounded by compute, of which storage costs more than of gas (nearcore,
/// `total.compute >= compute_limit`).
const CHUNK_FULL_PERCENT: f64 = 75.0;
const ENDPOINT_TROUBLE_PERCENT: f64 = 5.0;
const LANES_FULL_PERCENT: f64 = 50.0;
const STORE_WAIT_PERCENT: f64 = 50.0;

/// Applies the rules in order: a generator that fell behind explains everything after it; a run that did what it
/// was asked to had no limit; then the causes, the outermost first.
pub(super) fn limited_by(
    run: &Measures,
    longest: Option<&Measures>,
    schedule: &Schedule,
    observed: &Observed,
) -> LimitedBy {
    let limit = |what, evidence| LimitedBy { what, evidence };
    let counts = &run.counts;
    let sent = counts.sent as f64 * 100.0 / counts.offered.max(1) as f64;
    if sent < SENT_PERCENT {
        return limit(
            Limit::Generator,
            format!("{} of {} scheduled transfers were sent ({sent:.2} %)", counts.sent, counts.offered),
        );
    }
    if let Some(lag) = run.latency_ms.send_lag.filter(|lag| lag.p99 > observed.max_send_lag_ms as f64) {
        return limit(
            Limit::Generator,
            format!("p99 send lag was {:.0} ms, {} ms are allowed", lag.p99, observed.max_send_lag_ms),
        );
    }
    let length_s =
        schedule.phase_bounds().nth(schedule.longest_phase()).map_or(0.0, |(start, end)| (end - start) as f64 / 1e9);
    let offered = longest.map_or(0.0, |m| m.counts.offered as f64) / length_s.max(f64::MIN_POSITIVE);
    let reached = longest.map_or(0.0, |m| m.tps.mean);
    let pace = format!("{reached:.1} of {offered:.1} transfers/s succeeded");
    if reached * 100.0 >= offered * REACHED_PERCENT {
        return limit(Limit::Nothing, format!("{pace}: the run was as fast as it was asked to be"));
    }
    let Signals { lanes_full, store_wait, endpoint_trouble, chunk_fill } = observed.signals;
    let rules = [
        (
            Limit::Chain,
            chunk_fill,
            CHUNK_FULL_PERCENT,
            "of the chunks' gas was used, and they are bounded by compute, of which storage takes more",
        ),
        (
            Limit::Endpoint,
            endpoint_trouble,
            ENDPOINT_TROUBLE_PERCENT,
            "of the requests were refused, failed or timed out",
        ),
        (Limit::Store, store_wait, STORE_WAIT_PERCENT, "of the engine's time went into waiting for the store"),
        (
            Limit::Keys,
            lanes_full,
            LANES_FULL_PERCENT,
            "of the time transfers waited while every key had its fill of transactions under way: raise account.keys.count, \
             engine.maxInFlightPerKey or engine.batch.max, or lower engine.batch.depthDivisor",
        ),
    ];
    for (what, measured, bound, meaning) in rules {
        if let Some(percent) = measured.filter(|percent| *percent >= bound) {
            return limit(what, format!("{pace}, and {percent:.0} % {meaning}"));
        }
    }
    limit(Limit::Nothing, format!("{pace}, and nothing that is measured explains it"))
}
