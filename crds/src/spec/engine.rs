//! How the workers work.

use super::{DURATION_PATTERN, GAS_PATTERN};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the workers batch, sign and send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Engine {
    /// Transactions under way on all keys together.
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: u32,
    /// Transactions under way on one key.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_in_flight_per_key: u32,
    /// Transfers signed a second at most; 0: no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_tps: u32,
    /// How many transfers share a transaction.
    pub batch: Batch,
    /// When an endpoint is set aside.
    pub breaker: Breaker,
    /// Gas attached to each `ft_transfer`. nearbench's own token needs 0.7 Tgas; what is not used comes back, but
    /// is locked meanwhile.
    #[schemars(length(min = 6, max = 16), regex(pattern = GAS_PATTERN))]
    pub gas_per_transfer: String,
    /// Transfers waiting in the queue above which new ones are refused.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_queue_depth: u64,
    /// What settles a transfer. Only a final block does.
    pub finality: Finality,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            concurrency: 300,
            max_in_flight_per_key: 5,
            max_tps: 0,
            batch: Batch::default(),
            breaker: Breaker::default(),
            gas_per_transfer: "3 Tgas".to_owned(),
            max_queue_depth: 100_000,
            finality: Finality::Final,
        }
    }
}

/// What settles a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Finality {
    /// A final block.
    Final,
}

/// The size of a batch: the queue's depth divided by `depthDivisor`, at least `min`, at most `max`, and never more
/// than the chain takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Batch {
    /// At least.
    #[schemars(range(min = 1, max = 100))]
    pub min: u32,
    /// At most.
    #[schemars(range(min = 1, max = 100))]
    pub max: u32,
    /// What the queue's depth is divided by.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub depth_divisor: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { min: 1, max: 20, depth_divisor: 10 }
    }
}

/// When an endpoint is set aside, with opossum's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Breaker {
    /// A request that takes longer counts as failed.
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION_PATTERN))]
    pub timeout: String,
    /// The share of failed requests, in percent, that sets it aside.
    #[schemars(range(min = 1, max = 100))]
    pub error_threshold_percentage: u32,
    /// How long it rests before it is tried again.
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION_PATTERN))]
    pub reset_timeout: String,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { timeout: "5s".to_owned(), error_threshold_percentage: 50, reset_timeout: "30s".to_owned() }
    }
}
