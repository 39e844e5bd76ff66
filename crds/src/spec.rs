//! What a user writes: the spec of a `BenchmarkRun`. The comments here are the users' documentation.
//!
//! These are shapes only, with the bounds that an API server can check. What the fields mean together is
//! `resolve`'s business.

mod engine;
mod load;

pub use engine::{Batch, Breaker, Engine, Finality};
pub use load::{Ensure, Load, Phase, Threshold};

use crate::{pods::Pods, status::BenchmarkRunStatus};
use kube_derive::CustomResource;
use nearbench_core::{
    account,
    amount::{AMOUNT_PATTERN, NEAR_PATTERN},
    plan::{Cleanup, Profile},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lengths of time: one or more numbers with a unit.
pub(crate) const DURATION_PATTERN: &str = "^([0-9]{1,9}(ms|s|m|h))+$";
/// Lengths of time, where a bare number means seconds.
pub(crate) const SECONDS_PATTERN: &str = "^([0-9]{1,9}|([0-9]{1,9}(ms|s|m|h))+)$";
/// Decimal numbers as text.
pub(crate) const DECIMAL_PATTERN: &str = r"^[0-9]{1,15}(\.[0-9]{1,9})?$";
/// Gas.
pub(crate) const GAS_PATTERN: &str = r"^[0-9]{1,4}(\.[0-9]{1,3})? Tgas$";
/// Addresses of endpoints.
pub(crate) const URL_PATTERN: &str = "^https?://[^ ]+$";
/// Names of Kubernetes objects (RFC 1123 subdomain).
pub(crate) const NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Names of phases.
pub(crate) const PHASE_NAME_PATTERN: &str = "^[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// The head of a receiver's account id.
pub(crate) const PREFIX_PATTERN: &str = "^[a-z0-9]+([-_][a-z0-9]+)*$";

/// A benchmark of fungible-token transfers on a NEAR chain: a load in phases, the fleet that carries it, and what
/// must hold for it to pass.
// Each column has a type of its own, though they look alike.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nearbench.dev",
    version = "v1alpha1",
    kind = "BenchmarkRun",
    plural = "benchmarkruns",
    shortname = "bench",
    category = "nearbench",
    namespaced,
    status = "BenchmarkRunStatus",
    derive = "PartialEq",
    crates(kube_core = "::kube_core"),
    doc = "A benchmark of fungible-token transfers on a NEAR chain.",
    scale(
        spec_replicas_path = ".spec.workers.replicas",
        status_replicas_path = ".status.workers.replicas",
        label_selector_path = ".status.workers.selector"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".status.verdict"),
    printcolumn(
        name = "TPS",
        type_ = "string",
        json_path = ".status.summary.tps",
        description = "Transfers that succeeded, a second"
    ),
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".status.summary.target",
        description = "The highest steady arrivalRate"
    ),
    printcolumn(
        name = "Success",
        type_ = "string",
        json_path = ".status.summary.success",
        description = "Transfers that succeeded, in percent"
    ),
    printcolumn(
        name = "P95",
        type_ = "string",
        json_path = ".status.summary.p95",
        description = "95th percentile from intended arrival to finality"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "P99", type_ = "string", json_path = ".status.summary.p99", priority = 1),
    printcolumn(name = "Audit", type_ = "string", json_path = ".status.summary.audit", priority = 1),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".status.workers.ready", priority = 1),
    printcolumn(name = "Transfers", type_ = "string", json_path = ".status.summary.transfers", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BenchmarkRunSpec {
    /// The chain, and the ways to it.
    pub network: Network,
    /// The account that pays, signs and sends.
    pub account: Account,
    /// The token that moves.
    pub token: Token,
    /// The accounts that receive.
    pub receivers: Receivers,
    /// Where the queue lives. Absent: with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// What is offered, when, and how it is sent.
    pub load: Load,
    /// The worker processes that carry transfers to the chain.
    #[serde(default)]
    pub workers: Pods,
    /// How the workers batch, sign and send.
    #[serde(default)]
    pub engine: Engine,
    /// What must hold for the run to pass.
    #[serde(default)]
    pub ensure: Ensure,
    /// The whole run, from provisioning to cleanup, may take so many seconds; then it is stopped, drained and
    /// reported as inconclusive. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub active_deadline_seconds: Option<u32>,
    /// Remove the run so many seconds after it finished. Absent: never. A tool that applies manifests again and
    /// again would then start it again, and spend its funds again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<u32>,
    /// When to remove the access keys that the run added to the account.
    #[serde(default = "always")]
    pub cleanup: Cleanup,
    /// Hold the run before its load, until this is false. A load that began cannot be held; `stop` ends it.
    #[serde(default)]
    pub suspend: bool,
    /// Stop the load now; what is under way is finished, audited and reported.
    #[serde(default)]
    pub stop: bool,
}

fn always() -> Cleanup {
    Cleanup::Always
}

/// A Secret in the run's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// The Secret's name. Locally: the folder of that name under `--secrets`.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
}

/// A ConfigMap in the run's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapRef {
    /// The ConfigMap's name. Locally: the folder of that name under `--configmaps`.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
}

/// The chain, and the ways to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// The kind of chain: it sets the chain id that every endpoint must report, and the limits.
    pub profile: Profile,
    /// RPC endpoints. With `devnet` and none, the run brings up a chain of its own; every other profile needs one.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub endpoints: Vec<Endpoint>,
    /// `mainnet` refuses to run without it: transfers there spend real funds.
    #[serde(default)]
    pub allow_real_funds: bool,
}

/// One RPC endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Its address, http or https, without credentials: those belong into `authSecretRef`.
    #[schemars(length(min = 8, max = 512), regex(pattern = URL_PATTERN))]
    pub url: String,
    /// Endpoints of the lowest number are used first; the others take over when those fail.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub priority: u32,
    /// Send it no more requests a second than this. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_requests_per_second: Option<u32>,
    /// The Secret with its credentials, under the key `nearbench-rpc-auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<SecretRef>,
}

/// The account that pays, signs and sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// Its id.
    #[schemars(length(min = 2, max = 64), regex(pattern = account::PATTERN))]
    pub account_id: String,
    /// Make the account from another one, unless it is there. Not together with `masterKeySecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_from: Option<CreateFrom>,
    /// The Secret with a full-access key of the account that is there, under the key `nearbench-account.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_key_secret_ref: Option<SecretRef>,
    /// The access keys that transfers are signed with. Each is a lane of its own: more keys, more transactions
    /// under way.
    #[serde(default)]
    pub keys: Keys,
    /// The run does not start its load with less than this on the account.
    #[serde(default = "one_near")]
    #[schemars(length(min = 6, max = 80), regex(pattern = NEAR_PATTERN))]
    pub min_balance: String,
}

fn one_near() -> String {
    "1 NEAR".to_owned()
}

/// The account that funds a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateFrom {
    /// Its id. The new account must be a direct sub-account of it, as `bench.test.near` is of `test.near`.
    #[schemars(length(min = 2, max = 64), regex(pattern = account::PATTERN))]
    pub account_id: String,
    /// The Secret with a full-access key of it, under the key `nearbench-account.json`. Not needed on a chain of
    /// the run's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// What the new account gets.
    #[serde(default = "hundred_near")]
    #[schemars(length(min = 6, max = 80), regex(pattern = NEAR_PATTERN))]
    pub initial_balance: String,
}

fn hundred_near() -> String {
    "100 NEAR".to_owned()
}

/// The access keys that transfers are signed with: `count` new ones, or prepared ones. Absent: 12 new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keys {
    /// Make so many full-access keys, add them to the account, and remove them at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub count: Option<u32>,
    /// Use keys that are there: the Secret with them, under the key `nearbench-keys.json`. No master key is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// The token that moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Token {
    /// The account of its contract (NEP-141 and NEP-145).
    #[schemars(length(min = 2, max = 64), regex(pattern = account::PATTERN))]
    pub contract_id: String,
    /// Deploy nearbench's own token there; the contract's account must be a direct sub-account of the paying one.
    /// Absent: use the token that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
}

/// How nearbench's own token is deployed. Amounts are in its smallest units, as decimal digits in quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deploy {
    /// What the paying account owns from the start.
    #[serde(default = "supply")]
    #[schemars(length(min = 1, max = 39), regex(pattern = AMOUNT_PATTERN))]
    pub total_supply: String,
    /// What is minted for the paying account on top.
    #[serde(default = "nothing")]
    #[schemars(length(min = 1, max = 39), regex(pattern = AMOUNT_PATTERN))]
    pub mint: String,
}

impl Default for Deploy {
    fn default() -> Self {
        Self { total_supply: supply(), mint: nothing() }
    }
}

fn supply() -> String {
    "1000000000000000000000000000".to_owned()
}

fn nothing() -> String {
    "0".to_owned()
}

/// The accounts that receive: `count` made-up ones, `accounts`, or `accountsFrom`. All are registered with the
/// token; transfer n goes to the one of number n modulo their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receivers {
    /// So many receivers, called `PREFIX-0.ACCOUNT`, `PREFIX-1.ACCOUNT` and so on. They need no account on chain,
    /// only storage at the token, which the run pays for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub count: Option<u32>,
    /// The head of their names; `user` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = PREFIX_PATTERN))]
    pub prefix: Option<String>,
    /// These accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_000), inner(length(min = 2, max = 64), regex(pattern = account::PATTERN)), extend("x-kubernetes-list-type" = "set"))]
    pub accounts: Option<Vec<String>>,
    /// The accounts that a ConfigMap lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts_from: Option<AccountsFrom>,
    /// How transfers are spread over them.
    #[serde(default)]
    pub distribution: Distribution,
}

/// A list of accounts kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccountsFrom {
    /// The ConfigMap with the list, one account id a line, under the key `nearbench-accounts`.
    pub config_map_ref: ConfigMapRef,
}

/// How transfers are spread over the receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Evenly, one after the other.
    #[default]
    Uniform,
}

/// Where the queue lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Store {
    /// A Redis that is there.
    pub redis: Redis,
}

/// A Redis that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redis {
    /// The Secret with its URL, under the key `nearbench-redis-url`.
    pub secret_ref: SecretRef,
}
