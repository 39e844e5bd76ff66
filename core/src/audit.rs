//! What the audit found on chain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of walking the run's blocks and looking for every transfer by its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Whether chain and report agree in everything below.
    pub matches: bool,
    /// Transfers of the run found on chain.
    pub transfers_found: u64,
    /// Reported as succeeded, and not on chain.
    pub missing: u64,
    /// On chain more than once.
    pub doubled: u64,
    /// Transactions of the run's keys that are not the run's.
    pub foreign: u64,
    /// On chain otherwise than reported: another receiver, amount or outcome.
    pub contradicted: u64,
    /// Receivers whose balance was checked.
    pub receivers: u64,
    /// Whether the token's total supply is what it was.
    pub supply_conserved: bool,
}
