//! What kept a run from being faster, by rules that name their evidence.

use super::{Measures, Observed};
use crate::{evidence::Evidence, histogram::Latency, schedule::Schedule};
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

/// Where time was lost while the load ran, by those who carried it; `null`: not measured. Shares are in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Signals {
    /// Of the time of all lanes: with room for more under way, and nothing to sign.
    pub lanes_idle: Option<f64>,
    /// Of the load's time: transfers waited while every lane was full.
    pub lanes_full: Option<f64>,
    /// Of the time of all lanes: waiting for the store to give out transfers, or to take what was signed.
    pub store_wait: Option<f64>,
    /// How long the store's steps took for which the engine waits, in milliseconds, each to 3 %.
    pub store_latency_ms: Option<Latency>,
    /// Of requests to endpoints: refused (429), failed (5xx, reset) or timed out.
    pub endpoint_trouble: Option<f64>,
    /// For how long the breaker of at least one endpoint let nothing through, in milliseconds; of several processes, each with
    /// breakers of its own, together.
    pub breaker_open_ms: Option<u64>,
    /// The same, of the time of those processes.
    pub breaker_open: Option<f64>,
}

impl From<&Evidence> for Signals {
    fn from(evidence: &Evidence) -> Self {
        let Evidence { elapsed_ns, looks, full, lanes, store, open_ns, endpoints } = evidence;
        let requests: u64 = endpoints.values().map(|served| served.endings.total()).sum();
        let troubled: u64 = endpoints.values().map(|served| served.endings.troubled()).sum();
        Self {
            lanes_idle: percent(lanes.idle_ns, lanes.total_ns),
            lanes_full: percent(*full, *looks),
            store_wait: percent(lanes.store_ns, lanes.total_ns),
            store_latency_ms: store.summary(),
            endpoint_trouble: percent(troubled, requests),
            breaker_open_ms: (*elapsed_ns > 0).then_some(open_ns / 1_000_000),
            breaker_open: percent(*open_ns, *elapsed_ns),
        }
    }
}

pub(super) fn percent(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 * 100.0 / all as f64)
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
/// A breaker lets nothing through, so what is behind it fails no more requests: the time tells.
const BREAKER_OPEN_PERCENT: f64 = 10.0;
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
    let Signals {
        lanes_idle,
        lanes_full,
        store_wait,
        store_latency_ms,
        endpoint_trouble,
        breaker_open_ms,
        breaker_open,
    } = observed.signals;
    let steps = store_latency_ms
        .map_or_else(String::new, |steps| format!("; its steps took {:.1} ms, p99 {:.1} ms", steps.mean, steps.p99));
    let idle = lanes_idle
        .map_or_else(String::new, |idle| format!("; {idle:.0} % of the lanes' time they had nothing to sign"));
    let open = breaker_open_ms.map_or_else(String::new, |ms| format!(", {ms} ms in all"));
    let rules = [
        (
            Limit::Chain,
            observed.chunk_fill,
            CHUNK_FULL_PERCENT,
            "of the chunks' gas was used, and they are bounded by compute, of which storage takes more".to_owned(),
        ),
        (
            Limit::Endpoint,
            endpoint_trouble,
            ENDPOINT_TROUBLE_PERCENT,
            "of the requests were refused, failed or timed out".to_owned(),
        ),
        (
            Limit::Endpoint,
            breaker_open,
            BREAKER_OPEN_PERCENT,
            format!("of the time the breaker of an endpoint was open{open}: too much of what it was asked had failed"),
        ),
        (
            Limit::Store,
            store_wait,
            STORE_WAIT_PERCENT,
            format!("of the lanes' time went into waiting for the store{steps}"),
        ),
        (
            Limit::Keys,
            lanes_full,
            LANES_FULL_PERCENT,
            format!(
                "of the time transfers waited while every key had its fill of transactions under way{idle}: raise \
                 account.keys.count, engine.maxInFlightPerKey or engine.batch.max, or lower engine.batch.depthDivisor"
            ),
        ),
    ];
    for (what, measured, bound, meaning) in rules {
        if let Some(percent) = measured.filter(|percent| *percent >= bound) {
            return limit(what, format!("{pace}, and {percent:.0} % {meaning}"));
        }
    }
    limit(Limit::Nothing, format!("{pace}, and nothing that is measured explains it{idle}"))
}
