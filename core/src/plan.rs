//! The plan: a manifest made concrete. Every default is filled in and every bound has been checked.
//!
//! Workers, load and the audit read this, never the manifest. It holds no secret: only names of Secrets.

use crate::{Account, Amount, Gas, Near, ensure::Metric};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything a run needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The run's name.
    pub name: String,
    /// Which chain, through which endpoints.
    pub network: Network,
    /// Who pays and signs.
    pub account: PayingAccount,
    /// The token.
    pub token: Token,
    /// Who receives, in order: transfer n goes to `receivers[n % len]`.
    pub receivers: Vec<Account>,
    /// Smallest units of the token that each transfer moves.
    pub transfer_amount: Amount,
    /// Where the queue lives.
    pub store: Store,
    /// What is offered, when.
    pub load: Load,
    /// How many worker processes.
    pub workers: u32,
    /// How the engine works.
    pub engine: Engine,
    /// What must hold.
    pub ensure: Ensure,
    /// When to remove the run's keys.
    pub cleanup: Cleanup,
    /// The run's own time limit, in milliseconds.
    pub active_deadline_ms: Option<u64>,
}

/// A kind of chain: its id, limits and safe defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// nearbench's own chain in a process. Never presented as NEAR.
    Devnet,
    /// near-sandbox on this machine.
    Sandbox,
    /// A nearcore network of one's own.
    Localnet,
    /// NEAR's public test network.
    Testnet,
    /// NEAR.
    Mainnet,
}

/// The chain and the ways to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The kind of chain.
    pub profile: Profile,
    /// The chain id that every endpoint must report.
    pub chain_id: String,
    /// Empty: the run brings up a devnet of its own.
    pub endpoints: Vec<Endpoint>,
}

/// One RPC endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// http or https.
    pub url: String,
    /// Lower is preferred.
    pub priority: u32,
    /// At most so many requests a second; `None`: no limit.
    pub max_requests_per_second: Option<u32>,
    /// The Secret with its credentials, under `nearbench-rpc-auth`.
    pub auth_secret: Option<String>,
}

/// Who pays and signs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PayingAccount {
    /// The account whose keys sign and whose tokens move.
    pub account_id: Account,
    /// Set: the account is made from another.
    pub create_from: Option<CreateFrom>,
    /// The Secret with the account's master key, under `nearbench-account.json`. `None` on a chain of the
    /// run's own, or with prepared keys.
    pub master_key_secret: Option<String>,
    /// The access keys that transfers are signed with.
    pub keys: Keys,
    /// The balance the account must have before the load starts.
    pub min_balance: Near,
}

/// The account that funds a new one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateFrom {
    /// The funding account; the new one must be its direct sub-account.
    pub account_id: Account,
    /// The Secret with its key, under `nearbench-account.json`. `None` on a chain of the run's own.
    pub secret: Option<String>,
    /// What the new account gets.
    pub initial_balance: Near,
}

/// The access keys that transfers are signed with: one lane each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Keys {
    /// Made for this run, added to the account, removed at the end.
    Generate {
        /// How many.
        count: u32,
    },
    /// There already: the Secret holds them under `nearbench-keys.json`.
    Prepared {
        /// The Secret's name.
        secret: String,
    },
}

/// The token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// The contract's account.
    pub contract_id: Account,
    /// Set: nearbench's own token is deployed there.
    pub deploy: Option<Deploy>,
}

/// How to deploy nearbench's own token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    /// What `new` creates.
    pub total_supply: Amount,
    /// What `ft_mint` adds to the paying account.
    pub mint: Amount,
}

/// Where the queue lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Store {
    /// With the run: a Redis for it alone in a cluster, memory and a file locally.
    Own,
    /// A Redis that is there.
    Redis {
        /// The Secret with its URL, under `nearbench-redis-url`.
        secret: String,
    },
}

/// What is offered, when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// How transfers reach the workers.
    pub via: Via,
    /// How many generators share the schedule.
    pub generators: u32,
    /// How long an accepted transfer may take before it counts as timed out, in milliseconds.
    pub timeout_ms: u64,
    /// Connections a generator keeps per worker.
    pub connections: u32,
    /// Sockets in all.
    pub max_sockets: u32,
    /// The p99 send lag above which a run is inconclusive, in milliseconds.
    pub max_send_lag_ms: u64,
    /// The phases, one after another.
    pub phases: Vec<Phase>,
}

/// How transfers reach the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Straight into the queue.
    Queue,
    /// Through the HTTP API, as a client would.
    Http,
    /// Somebody else sends.
    External,
}

/// One phase of the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// Its name, unique in the plan.
    pub name: String,
    /// How long, in milliseconds.
    pub duration_ms: u64,
    /// What arrives.
    pub arrivals: Arrivals,
    /// At most so many transfers under way in this phase.
    pub max_vusers: Option<u32>,
}

/// What arrives in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Arrivals {
    /// So many a second, throughout.
    Rate(f64),
    /// From one rate to another, in steps of a second as Artillery does:
    /// second t of d has rate `from + (to - from) * t / (d - 1)`.
    Ramp {
        /// Transfers a second in the first second.
        from: f64,
        /// Transfers a second in the last second.
        to: f64,
    },
    /// So many in all, evenly spread.
    Count(u64),
    /// None.
    Pause,
}

/// How the engine works.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// Attempts under way in all lanes together.
    pub concurrency: u32,
    /// Attempts under way in one lane.
    pub max_in_flight_per_key: u32,
    /// Transfers signed a second, at most; 0: no limit.
    pub max_tps: u32,
    /// How many transfers share a transaction.
    pub batch: Batch,
    /// When an endpoint is set aside.
    pub breaker: Breaker,
    /// Gas attached to each `ft_transfer`.
    pub gas_per_transfer: Gas,
    /// Transfers waiting in the queue above which new ones are refused.
    pub max_queue_depth: u64,
}

/// Batch size = `clamp(floor(queueDepth / depthDivisor), min, max)`, capped by the chain's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// At least (when so many wait).
    pub min: u32,
    /// At most.
    pub max: u32,
    /// What the queue's depth is divided by.
    pub depth_divisor: u32,
}

/// When an endpoint is set aside, after opossum's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// A request takes at most this, in milliseconds.
    pub timeout_ms: u64,
    /// Failures in percent that open it.
    pub error_threshold_percentage: u32,
    /// How long it stays open before a probe, in milliseconds.
    pub reset_timeout_ms: u64,
}

/// What must hold for the run to pass.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ensure {
    /// All of these.
    pub thresholds: Vec<Threshold>,
    /// Transfers that did not succeed, in percent of those offered, at most.
    pub max_error_rate: Option<f64>,
}

/// A bound on a metric. A metric without data fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Threshold {
    /// The metric.
    pub metric: Metric,
    /// In this phase; `None`: in the whole run.
    pub phase: Option<String>,
    /// At least.
    pub min: Option<f64>,
    /// At most.
    pub max: Option<f64>,
}

/// When the run's keys are removed and what is left is sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cleanup {
    /// At every end.
    Always,
    /// When the run passed.
    OnSuccess,
    /// Never.
    Never,
}

/// A chain's limits, as read from the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChainLimits {
    /// Protocol version.
    pub protocol_version: u32,
    /// Actions in a transaction.
    pub max_actions: u64,
    /// Gas attached to a transaction in all.
    pub max_total_prepaid_gas: u64,
    /// A transaction's size in bytes, signature included.
    pub max_transaction_size: u64,
    /// Gas in a chunk.
    pub chunk_gas_limit: u64,
    /// Blocks a transaction stays valid after its base block.
    pub transaction_validity_period: u64,
}
