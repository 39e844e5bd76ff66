//! How a run stands: what the process that carries it out tells whoever follows it.

use crate::{histogram::Latency, lifecycle::Stage, measure::Live};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Which stage its life is in.
    pub stage: Stage,
    /// The load's phase; empty before the load.
    pub phase: String,
    /// How much of the load's time is over, 0 to 100.
    pub percent: u32,
    /// Transfers meant to have arrived by now.
    pub offered: u64,
    /// Transfers that succeeded.
    pub succeeded: u64,
    /// The rest of it.
    #[serde(flatten)]
    pub figures: Figures,
    /// What keeps it from going on just now, and the way out, where something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a load and its transfers do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Figures {
    /// Since the load's start, in milliseconds.
    pub elapsed_ms: u64,
    /// Transfers that were accepted.
    pub accepted: u64,
    /// Transfers that were rejected.
    pub rejected: u64,
    /// Transfers that failed.
    pub failed: u64,
    /// Transfers that were accepted and have no end yet.
    pub in_flight: u64,
    /// Transfers that wait in the queue.
    pub queue_depth: u64,
    /// Transactions that were executed.
    pub transactions: u64,
    /// Transfers that became final a second, over the last ten seconds.
    pub tps: f64,
    /// The mean of their settle latencies, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle_mean_ms: Option<f64>,
    /// The longest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle_max_ms: Option<f64>,
    /// The settle latency since the load's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<Latency>,
}

impl Standing {
    /// A run in `stage`, its load not begun.
    pub fn at(stage: Stage) -> Self {
        let figures = Figures::default();
        Self { stage, phase: String::new(), percent: 0, offered: 0, succeeded: 0, figures, trouble: None }
    }

    /// The same run, its load in `phase` and as far as `live`.
    pub fn under_load(&mut self, phase: &str, live: &Live) {
        self.phase.clear();
        self.phase.push_str(phase);
        self.percent = live.percent.clamp(0.0, 100.0) as u32;
        self.offered = live.offered;
        self.working_off(live);
    }

    /// The same run, its load over and its transfers as far as `live`.
    pub fn working_off(&mut self, live: &Live) {
        self.succeeded = live.succeeded;
        self.figures = Figures {
            elapsed_ms: live.elapsed_ms,
            accepted: live.accepted,
            rejected: live.rejected,
            failed: live.failed,
            in_flight: live.in_flight,
            queue_depth: live.queue_depth,
            transactions: live.transactions,
            tps: live.lately.tps,
            settle_mean_ms: live.lately.settle_mean_ms,
            settle_max_ms: live.lately.settle_max_ms,
            settle: live.settle,
        };
    }
}
