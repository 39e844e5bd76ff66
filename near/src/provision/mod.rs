//! Provisioning as a reconciler of the chain: observe, plan, apply, until the plan is empty.
//!
//! What there is to do follows from the chain alone, so that a run that was killed goes on where it stopped, and one that
//! is complete changes nothing. Everything that can be known to be wrong is found before anything is changed.

mod apply;
mod journal;
mod observe;
mod plan;

use crate::{
    Client, Signer,
    chain::{At, ChainIdError, ViewError},
    rpc::RpcError,
    token::Token,
};
use bytes::Bytes;
use nearbench_core::{
    Account, Amount, Height, Near, Nonce,
    audit::Balances,
    outcome::{Execution, Refusal},
    plan::{ChainLimits, Deploy},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use apply::Course;
pub use journal::{Journal, JournalError};
pub use plan::Step;
use plan::Todo;

/// Observations that still found something to do, at most: creating, deploying and registering take one each.
const MAX_ROUNDS: usize = 6;
/// Longer than a block takes to become final (some 2 s on public networks).
const FINALITY: Duration = Duration::from_secs(3);

/// What shall be on chain.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The chain's id.
    pub chain_id: String,
    /// The account that pays, signs and sends.
    pub account: Account,
    /// Who makes that account where it is missing, and with what balance. It must be its parent.
    pub create_from: Option<(Signer, Near)>,
    /// The account's master key. `None`: nothing can be changed, only checked.
    pub master: Option<Signer>,
    /// The public keys that transfers are signed with, all full-access.
    pub lane_keys: Vec<String>,
    /// The token's contract.
    pub token: Account,
    /// How to deploy it where it is missing, and the contract's wasm.
    pub deploy: Option<(Deploy, Bytes)>,
    /// Who must be able to receive.
    pub receivers: Vec<Account>,
    /// What the account must have left in the end.
    pub min_balance: Near,
    /// What the account must have of the token.
    pub tokens_needed: Amount,
}

/// What is on chain, verified at one final block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// The lane keys in their order.
    pub lanes: Vec<Lane>,
    /// The chain's limits.
    pub limits: ChainLimits,
    /// The final block at which all of this was read. The run's blocks come after it.
    pub height: Height,
    /// Token balances there.
    pub balances: Balances,
}

impl Provisioned {
    /// The lanes' public keys, in their order.
    pub fn public_keys(&self) -> Vec<String> {
        self.lanes.iter().map(|lane| lane.public_key.clone()).collect()
    }
}

/// A lane key on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The public key.
    pub public_key: String,
    /// Its last nonce.
    pub nonce: Nonce,
}

/// How provisioning goes.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// So many steps are needed in all, those included that follow from others.
    Planned {
        /// How many.
        steps: usize,
    },
    /// A step is final on chain.
    Done {
        /// Which.
        step: &'a Step,
        /// Its number, from 1.
        number: usize,
        /// Of how many.
        of: usize,
    },
    /// Nothing is left to do, and everything was checked.
    Verified,
}

/// Why provisioning stopped. Unless it names a step, nothing was changed on chain by the round that found it.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// An endpoint of another chain, or none.
    #[error(transparent)]
    Chain(#[from] ChainIdError),
    /// The chain could not be read.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The token does not answer as one.
    #[error("the token does not answer: {0}; check spec.token.contractId")]
    Token(#[from] ViewError),
    /// What is desired cannot be reached from what is there.
    #[error("spec.{field}: {reason}")]
    Impossible {
        /// The manifest's field, below `spec`.
        field: &'static str,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// A step was refused by the node.
    #[error("{step}: the node refused it: {refusal:?}; what was done before stays, run it again once that is mended")]
    Refused {
        /// Which.
        step: String,
        /// Why.
        refusal: Refusal,
    },
    /// A step failed on chain.
    #[error("{step}: it failed on chain: {execution:?}; what was done before stays, run it again once that is mended")]
    Failed {
        /// Which.
        step: String,
        /// How.
        execution: Execution,
    },
    /// A step's outcome did not become known in time.
    #[error("{step}: its outcome is not known yet; run it again: what did happen is not done twice")]
    Unknown {
        /// Which.
        step: String,
    },
    /// What was signed for a step cannot be kept, or what was kept cannot be known.
    #[error("{step}: the journal of what was signed does not answer: {source}; it was not sent, run it again")]
    Journal {
        /// Which.
        step: String,
        /// Why.
        source: JournalError,
    },
    /// Every step succeeded, and yet there is always another.
    #[error("still {steps} steps to do after {MAX_ROUNDS} rounds; does somebody else change this account or token?")]
    Unsettled {
        /// How many.
        steps: usize,
    },
}

/// Makes the chain as desired and verifies it. `None`: `stop` was cancelled, and the outcome of everything that was
/// sent is known; it takes the time of the transactions under way, some minutes at most.
///
/// With a `journal`, the account and the token are made by bytes that were kept in it first: where a provisioning was
/// killed, the next one with that journal sends those, as long as they can land.
///
/// # Errors
/// One error that names the manifest's field or the step, and the way out.
pub async fn provision(
    client: &Client,
    desired: &Desired,
    journal: Option<&dyn Journal>,
    stop: &CancellationToken,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Option<Provisioned>, ProvisionError> {
    plan::check(desired)?;
    client.check_chain_id(&desired.chain_id).await?;
    let (mut done, mut left) = (0, 0);
    for _ in 0..MAX_ROUNDS {
        let observed = observe::observe(client, desired).await?;
        let Todo { now: steps, later } = plan::plan(desired, &observed)?;
        if steps.is_empty() {
            let lanes = plan::verify(desired, &observed)?;
            let token = Token { client, contract: &desired.token, at: At::Hash(observed.base.hash) };
            let balances = token.balances(&desired.account, &desired.receivers).await?;
            progress(Progress::Verified);
            return Ok(Some(Provisioned { lanes, limits: observed.limits, height: observed.base.height, balances }));
        }
        left = steps.len() + later;
        if done == 0 {
            progress(Progress::Planned { steps: left });
        }
        let course = Course { stop, progress, before: done, of: done + left };
        match apply::apply(client, desired, journal, &observed, &steps, &course).await {
            // Something that was sent before this run, such as by one that was broken off, landed after the look at the
            // chain: look again once it is final.
            // Or the node that refused it is behind, and does not know its base block yet.
            Err(ProvisionError::Refused { refusal: Refusal::NonceTooLow { .. } | Refusal::Expired, .. }) => {
                tokio::time::sleep(FINALITY).await;
            }
            Ok(applied) => done += applied,
            Err(error) => return Err(error),
        }
        if stop.is_cancelled() {
            return Ok(None);
        }
    }
    Err(ProvisionError::Unsettled { steps: left })
}

/// Removes access keys that are there from the master key's account. A removed key must never be added again: its nonces
/// would begin anew.
///
/// # Errors
/// As [`provision`].
pub async fn remove_keys(
    client: &Client,
    master: &Signer,
    public_keys: &[String],
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<(), ProvisionError> {
    let base = client.block(At::Final).await?.at;
    let at = At::Hash(base.hash);
    let keys = observe::access_keys(client, master.account(), public_keys, at).await?;
    let there = public_keys.iter().zip(&keys).filter(|(_, key)| key.is_some());
    let there: Vec<_> = there.map(|(public_key, _)| public_key.clone()).collect();
    if there.is_empty() {
        return Ok(());
    }
    let Some(nonce) = client.access_key(master.account(), master.public_key(), at).await?.value.map(|key| key.nonce)
    else {
        return Err(plan::no_such_key("account", master));
    };
    let limits = client.limits().await?;
    let steps: Vec<_> =
        there.chunks(limits.max_actions.max(1) as usize).map(|keys| Step::RemoveKeys(keys.to_vec())).collect();
    let course = Course { stop: &CancellationToken::new(), progress, before: 0, of: steps.len() };
    apply::removals(client, master, nonce, &base, &steps, &course).await
}
