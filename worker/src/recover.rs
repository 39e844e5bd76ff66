//! Makes a store whole again that may lack what it had confirmed: one that was restored from an older copy of itself, or
//! whose place a replica took that was behind.
//!
//! Of what such a store forgot, transactions may be on chain, or on their way there. So before anything is claimed again:
//!
//! 1. Every lane is fenced: a transaction of a nonce above all that anybody can have used. What was on its way is in a block
//!    by the time that the fence is, or never will be.
//! 2. In the final blocks up to then every transaction is found that used a nonce above those that the store knows of.
//! 3. The store learns what they carried and how they ended. A transfer that moved its tokens is taken out of the queue, and
//!    is not put back, whatever the store believes of it.
//!
//! One worker does this, under a lease of its own; the others wait for it. It may be begun again at any point.

use crate::{engine::key_of, finality::Finality, ids::Ids, lane::expiry};
use futures_util::future::try_join_all;
use nearbench_core::{
    Account, Height, Nonce,
    lane::first_nonce,
    outcome::Execution,
    settle::{self, Executed, Fate, Proof, Settled},
};
use nearbench_near::{
    Client, Signer,
    chain::At,
    history::{FoundTransaction, HistoryError, LaneMark, found_since},
    rpc::RpcError,
    transaction::sign_fence,
};
use nearbench_store::{Found, LeaseId, RECOVERY_TTL, Recovery, RedisStore, Store, StoreError};
use rand::Rng;
use std::time::Duration;

/// Between two looks whether another's recovery is over.
const LOOK: Duration = Duration::from_secs(1);
/// Final blocks between two sendings of the same fence.
const RESEND: Height = 4;

/// Where a recovery takes place.
pub struct Ground<'a> {
    /// The chain.
    pub client: &'a Client,
    /// The final chain.
    pub finality: &'a Finality,
    /// The token that was paid with.
    pub token: &'a Account,
    /// Every key that ever was a lane of the store.
    pub lanes: &'a [Signer],
    /// A height at which none of them had signed a transfer: that of the block before the load.
    pub from: Height,
    /// The time since the load's start, in nanoseconds.
    pub now_ns: &'a (dyn Fn() -> u64 + Sync),
}

/// What a recovery brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Transactions on chain that the store had not known.
    pub transactions: u64,
    /// The transfers in them that had come to their end.
    pub transfers: u64,
}

/// Why a store is not whole yet. It may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store's, or the recovery was taken over by another.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain does not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The blocks since the store's last known transaction cannot be read whole.
    #[error("what the store lacks cannot be read from the chain: {0}")]
    History(#[from] HistoryError),
}

/// Returns once the store is whole: by its own doing, what that brought; `None` where there was nothing to do, or another did
/// it.
///
/// # Errors
/// When the chain or the store cannot be asked; nothing is half-done that trying again would not finish.
pub async fn recover(store: &RedisStore, ground: &Ground<'_>) -> Result<Option<Recovered>, RecoverError> {
    let healer = LeaseId(rand::rng().random());
    loop {
        match store.recover(healer, RECOVERY_TTL).await? {
            Recovery::Whole => return Ok(None),
            Recovery::Ours => break,
            Recovery::Others(left) => tokio::time::sleep(left.min(LOOK)).await,
        }
    }
    tracing::warn!("the store may lack what it had confirmed: fencing its lanes, and reading the chain");
    let recovered = tokio::select! {
        recovered = heal(store, ground, healer) => recovered?,
        lost = renew(store, healer) => return Err(lost.into()),
    };
    store.recovered(healer).await?;
    let Recovered { transactions, transfers } = recovered;
    tracing::warn!(transactions, transfers, "the store is whole again: so many it had not known were found on chain");
    Ok(Some(recovered))
}

/// Keeps the recovery ours; returns when it is not any more.
async fn renew(store: &RedisStore, healer: LeaseId) -> StoreError {
    loop {
        tokio::time::sleep(RECOVERY_TTL / 4).await;
        match store.recover(healer, RECOVERY_TTL).await {
            Ok(Recovery::Ours) => {}
            Ok(Recovery::Whole | Recovery::Others(_)) => return StoreError::LeaseLost("of the recovery".into()),
            Err(error) => return error,
        }
    }
}

async fn heal(store: &RedisStore, ground: &Ground<'_>, healer: LeaseId) -> Result<Recovered, RecoverError> {
    let known = store.lanes().await?;
    let used = |signer: &Signer| {
        let key = key_of(signer);
        known.iter().find(|standing| standing.lane == key).map_or(0, |standing| standing.used)
    };
    try_join_all(ground.lanes.iter().map(|signer| fence_off(store, ground, signer, healer))).await?;
    let until = ground.client.block(At::Final).await?.at;
    let Some(account) = ground.lanes.first().map(Signer::account) else { return Ok(Recovered::default()) };
    let marks: Vec<_> =
        ground.lanes.iter().map(|signer| LaneMark { public_key: signer.public_key(), known: used(signer) }).collect();
    let found = found_since(ground.client, account, ground.token, &marks, ground.from, until).await?;
    let found: Vec<_> = found
        .into_iter()
        .filter_map(|tx| {
            let signer = ground.lanes.iter().find(|signer| signer.public_key() == tx.public_key)?;
            Some(as_found(tx, signer, (ground.now_ns)()))
        })
        .collect();
    store.import(healer, &found).await?;
    for Found { hash, transfers, .. } in &found {
        let ids = Ids(transfers.iter().copied());
        tracing::debug!(tx_hash = %hash, transfers = transfers.len(), transfer_ids = %ids, "found on chain");
    }
    let ended = |one: &Found| {
        let fates = (0..one.transfers.len()).map(|index| one.settled.settlement.fate(index));
        fates.filter(|fate| *fate != Fate::Requeue).count() as u64
    };
    let transfers = found.iter().map(ended).sum();
    // A fence carries nothing, and belongs to this recovery or an earlier one.
    let transactions = found.iter().filter(|one| !one.transfers.is_empty()).count() as u64;
    Ok(Recovered { transactions, transfers })
}

/// Sees to it that no transaction of a lane below a nonce of this moment is still to land.
async fn fence_off(
    store: &RedisStore,
    ground: &Ground<'_>,
    signer: &Signer,
    healer: LeaseId,
) -> Result<(), RecoverError> {
    let Ground { client, finality, .. } = ground;
    let (key, lease) = (key_of(signer), LeaseId(rand::rng().random()));
    let limits = client.limits().await?;
    loop {
        let stored = store.seize(&key, lease, RECOVERY_TTL, healer).await?;
        let Some(on_chain) = client.access_key(signer.account(), signer.public_key(), At::Final).await?.value else {
            // It was taken off the account: nothing of it lands any more.
            return Ok(store.release_lane(&key, lease).await?);
        };
        let base = finality.head();
        // Whoever used the lane began at an earlier final height, and counted up from it by ones.
        let nonce = first_nonce(on_chain.nonce, stored.high_water, base.height);
        store.raise(&key, lease, nonce).await?;
        let fence = sign_fence(signer, nonce, &base);
        let last = expiry(base.height, limits.transaction_validity_period);
        while !passed(client, signer, nonce).await? && finality.head().height <= last {
            if let Err(error) = client.send(&fence).await {
                tracing::debug!(tx_hash = %fence.hash, %error, "a fence was not taken; trying again");
            }
            wait(client, finality, signer, nonce).await?;
        }
        store.release_lane(&key, lease).await.or_else(|error| match error {
            // The fence took longer than the lease: nobody needs it any more.
            StoreError::LeaseLost(_) => Ok(()),
            other => Err(other),
        })?;
        if passed(client, signer, nonce).await? {
            return Ok(());
        }
    }
}

/// Waits until the key is past `nonce`, or some blocks have gone by.
async fn wait(client: &Client, finality: &Finality, signer: &Signer, nonce: Nonce) -> Result<(), RpcError> {
    let from = finality.head().height;
    for height in from + 1..=from + RESEND {
        finality.reaches(height).await;
        if passed(client, signer, nonce).await? {
            break;
        }
    }
    Ok(())
}

async fn passed(client: &Client, signer: &Signer, nonce: Nonce) -> Result<bool, RpcError> {
    let key = client.access_key(signer.account(), signer.public_key(), At::Final).await?.value;
    Ok(key.is_none_or(|key| key.nonce >= nonce))
}

/// What a settlement of the transaction would have stored.
fn as_found(tx: FoundTransaction, signer: &Signer, now_ns: u64) -> Found {
    let FoundTransaction { hash, nonce, transfers, landed, executed_in, .. } = tx;
    let failure = match &landed.execution {
        Execution::Failure { kind, .. } => Some(kind.clone()),
        Execution::Success => None,
    };
    let settlement = settle::landed(&landed.execution, transfers.len()).settlement;
    let executed = Executed {
        receipt: landed.receipt,
        block: executed_in.hash,
        block_unix_ns: executed_in.timestamp_ns,
        at_ns: now_ns,
    };
    let settled = Settled { settlement, proof: Proof::Executed(executed), failure, at_ns: now_ns };
    let transfers = transfers.iter().map(|found| found.id);
    Found { hash, nonce, lane: key_of(signer), settled, transfers: transfers.collect() }
}
