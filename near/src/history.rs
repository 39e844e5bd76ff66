//! What the run's keys did on chain: every block of a stretch, every transaction of the keys in them, and how its receipt
//! ended.
//!
//! Blocks are fetched by height, several at once; each must name the one before it, so that none is left out unseen. Only
//! final blocks are read. What follows from what is found is not said here.

use crate::{
    Client,
    chain::{At, Block, ChunkAction, ChunkTransaction, Wait},
    pool::TIMED_OUT,
    receipts::Payment,
    rpc::RpcError,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use nearbench_core::{
    Account, Amount, Hash, Height, Memo, Nonce, TransferId,
    backoff::Backoff,
    outcome::{BlockRef, Landed, TxStatus},
    settle::{Crossing, KeyLook, Search, Subject},
};
use rand::Rng;
use serde::Deserialize;
use std::{borrow::Cow, future::Future, time::Duration};

/// Requests under way at once.
pub(crate) const CONCURRENCY: usize = 16;
/// How often an outcome that is not final yet is asked for; each time the node waits some 10 s.
const OUTCOME_TRIES: usize = 6;
/// Before a receipt is looked for again that was not found in final blocks.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a read that no endpoint answered in its time is made again: a walk of thousands of reads meets some.
const READS: usize = 12;
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));

/// Why a stretch of the chain could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The chain could not be read.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// A block is missing in the node's chain.
    #[error(
        "block {height} does not follow the block before it: the node lacks blocks of the run; read it through an archival endpoint"
    )]
    Gap {
        /// Its height.
        height: Height,
    },
    /// A transaction stands in a final block, and the node does not know its outcome.
    #[error(
        "the node knows no outcome of {tx} in block {height}: read it through an endpoint that tracks the shard and keeps outcomes"
    )]
    NoOutcome {
        /// The transaction.
        tx: Hash,
        /// Its block.
        height: Height,
    },
}

/// A transfer that a transaction carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTransfer {
    /// Its identity, from the memo.
    pub id: TransferId,
    /// Who was to get the tokens.
    pub receiver: Account,
    /// How many smallest units.
    pub amount: Amount,
    /// What the client wrote to it.
    pub memo: Option<Memo>,
}

/// A transaction that used a nonce of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTransaction {
    /// Its hash.
    pub hash: Hash,
    /// The key that signed it, as `ed25519:…`.
    pub public_key: String,
    /// Its nonce.
    pub nonce: Nonce,
    /// The transfers in it, in their order. What is none of them is left out: nearbench signs nothing else with a lane but
    /// fences.
    pub transfers: Vec<FoundTransfer>,
    /// How its receipt ended.
    pub landed: Landed,
    /// The block that executed the receipt; final.
    pub executed_in: BlockRef,
}

/// A lane's key, and a nonce above which nobody knows what it signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneMark<'a> {
    /// The key, as `ed25519:…`.
    pub public_key: &'a str,
    /// What it signed with this nonce or a lower one is known.
    pub known: Nonce,
}

/// Every transaction that used a nonce above its lane's mark in the final blocks after height `from` up to `until`. All of
/// them are final, and nothing else of these nonces can land any more once the keys are past them in `until`.
///
/// `from`: a height at which no key was past its mark, such as the block before the load.
///
/// # Errors
/// When that stretch of the chain cannot be read whole: it may be collected.
pub async fn found_since(
    client: &Client,
    account: &Account,
    token: &Account,
    lanes: &[LaneMark<'_>],
    from: Height,
    until: BlockRef,
) -> Result<Vec<FoundTransaction>, HistoryError> {
    let mut first: Option<Height> = None;
    for lane in lanes {
        if let Some(passed) = passed_at(client, account, lane, from, until).await? {
            first = Some(first.map_or(passed, |first| first.min(passed)));
        }
    }
    let Some(first) = first else { return Ok(Vec::new()) };
    let Some(start) = parent(client, first).await? else { return Err(HistoryError::Gap { height: first }) };
    let is_unknown = |tx: &ChunkTransaction| {
        *tx.signer == **account && lanes.iter().any(|lane| lane.public_key == tx.public_key && tx.nonce > lane.known)
    };
    let mut found = Vec::new();
    walk(client, start, until, async |block| {
        for tx in transactions(client, &block, is_unknown).await? {
            let Some(landed) = landed(client, account, token, &tx, &block.at).await? else { continue };
            let executed_in = insist(|| client.block(At::Hash(landed.block))).await?.at;
            let transfers = transfers_in(token, &tx).flatten().filter_map(Carried::found).collect();
            let ChunkTransaction { hash, public_key, nonce, .. } = tx;
            found.push(FoundTransaction { hash, public_key, nonce, transfers, landed, executed_in });
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// The height of the first block after `from` in which a lane's key is past its mark; `None` if it is not in `until` either.
async fn passed_at(
    client: &Client,
    account: &Account,
    lane: &LaneMark<'_>,
    from: Height,
    until: BlockRef,
) -> Result<Option<Height>, HistoryError> {
    let key = insist(|| client.access_key(account, lane.public_key, At::Hash(until.hash))).await?;
    let nonce = key.value.map(|key| key.nonce);
    if nonce.is_some_and(|nonce| nonce <= lane.known) {
        return Ok(None);
    }
    let look = KeyLook { height: until.height, nonce };
    let subject = Subject { hash: Hash::default(), nonce: lane.known + 1, base: from, expiry: until.height };
    let mut crossing = Crossing::new(&subject, &look);
    loop {
        match crossing.next() {
            Search::LookAt(height) => {
                crossing.saw(insist(|| client.key_at_height(account, lane.public_key, height)).await?)
            }
            Search::Found(height) => return Ok(Some(height)),
            Search::Collected(height) => return Err(HistoryError::Gap { height }),
        }
    }
}

/// The block before the one at this height.
async fn parent(client: &Client, height: Height) -> Result<Option<BlockRef>, HistoryError> {
    let Some(block) = block_at(client, height).await? else { return Ok(None) };
    Ok(Some(insist(|| client.block(At::Hash(block.at.prev_hash))).await?.at))
}

/// Reads, and reads again where no endpoint answers.
pub(crate) async fn insist<T, F: Future<Output = Result<T, RpcError>>>(read: impl Fn() -> F) -> Result<T, RpcError> {
    let mut pauses = PAUSES;
    for _ in 1..READS {
        match read().await {
            Err(error) if error.fault.is_endpoints() || error.fault.caused_by(TIMED_OUT).is_some() => {
                tracing::debug!(%error, "reading again")
            }
            answer => return answer,
        }
        tokio::time::sleep(pauses.step(rand::rng().random())).await;
    }
    read().await
}

/// The canonical block of a height; `None` where the node knows none, which the next block's predecessor confirms or
/// refutes.
async fn block_at(client: &Client, height: Height) -> Result<Option<Block>, RpcError> {
    match insist(|| client.block(At::Height(height))).await {
        Err(error) if error.fault.caused_by(&["UNKNOWN_BLOCK"]).is_some() => Ok(None),
        result => result.map(Some),
    }
}

/// Reads the blocks after `reached` up to `end`, each of which must name the one before it.
pub(crate) async fn walk(
    client: &Client,
    mut reached: BlockRef,
    end: BlockRef,
    mut visit: impl AsyncFnMut(Block) -> Result<(), HistoryError>,
) -> Result<(), HistoryError> {
    let mut blocks =
        stream::iter(reached.height + 1..=end.height).map(|height| block_at(client, height)).buffered(CONCURRENCY);
    while let Some(block) = blocks.try_next().await? {
        let Some(block) = block else { continue };
        if block.at.prev_hash != reached.hash {
            return Err(HistoryError::Gap { height: block.at.height });
        }
        reached = block.at;
        visit(block).await?;
    }
    if reached.hash == end.hash { Ok(()) } else { Err(HistoryError::Gap { height: end.height }) }
}

/// A block's transactions that `is_ours` chooses.
pub(crate) async fn transactions(
    client: &Client,
    block: &Block,
    is_ours: impl Fn(&ChunkTransaction) -> bool,
) -> Result<Vec<ChunkTransaction>, HistoryError> {
    let chunks: Vec<_> = stream::iter(&block.chunks)
        .map(|hash| insist(|| client.chunk(*hash)))
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(chunks.into_iter().flatten().filter(is_ours).collect())
}

/// How the receipt ended of a transaction that stands in a final block, once it is final; `None` where the transaction was not
/// valid there.
///
/// The same bytes may stand in two blocks, and be valid in one of them; a node shows the outcome of one of the two. Where
/// it shows nothing of this one, the changes of its key say whether it was valid here, and its receipt how it ended.
pub(crate) async fn landed(
    client: &Client,
    account: &Account,
    token: &Account,
    tx: &ChunkTransaction,
    block: &BlockRef,
) -> Result<Option<Landed>, HistoryError> {
    for _ in 0..OUTCOME_TRIES {
        let shown = insist(|| client.tx_shown(tx.hash, account, Wait::Final)).await?;
        let is_here = shown.block == Some(block.hash);
        match shown.status {
            TxStatus::Landed(landed) => return Ok(is_here.then_some(landed)),
            TxStatus::Invalid(_) if is_here => return Ok(None),
            TxStatus::Pending => continue,
            TxStatus::Unknown | TxStatus::Invalid(_) => {}
        }
        match insist(|| client.moved_key(account, &tx.public_key, block.hash, tx.hash)).await? {
            Some(true) => {}
            Some(false) if shown.block.is_some() => return Ok(None),
            _ => continue,
        }
        let ids: Option<Vec<_>> = transfers_in(token, tx).map(|transfer| Some(transfer?.id)).collect();
        let payment = Payment { account, public_key: &tx.public_key, token, ids: &ids.unwrap_or_default() };
        if let Some(landed) = insist(|| client.executed(&payment, block.height)).await? {
            return Ok(Some(landed));
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(HistoryError::NoOutcome { tx: tx.hash, height: block.height })
}

#[derive(Deserialize)]
pub(crate) struct TransferArgs<'a> {
    #[serde(borrow)]
    pub(crate) receiver_id: Cow<'a, str>,
    pub(crate) amount: Amount,
    #[serde(borrow)]
    pub(crate) memo: Cow<'a, str>,
}

/// A transfer in a transaction.
pub(crate) struct Carried<'a> {
    pub(crate) id: TransferId,
    pub(crate) args: TransferArgs<'a>,
}

impl Carried<'_> {
    fn found(self) -> Option<FoundTransfer> {
        let TransferArgs { receiver_id, amount, memo } = self.args;
        let memo = memo.get(33..).and_then(|text| Memo::new(text).ok());
        Some(FoundTransfer { id: self.id, receiver: Account::new(&receiver_id).ok()?, amount, memo })
    }
}

/// The transfers in a transaction, in order; `None` for what is none of the run's.
pub(crate) fn transfers_in<'t>(
    token: &Account,
    tx: &'t ChunkTransaction,
) -> impl Iterator<Item = Option<Carried<'t>>> + use<'t> {
    let to_token = *tx.receiver == **token;
    tx.actions.iter().map(move |action| match action {
        ChunkAction::Call { method, args } if to_token && method == "ft_transfer" => {
            let args: TransferArgs<'_> = serde_json::from_slice(args).ok()?;
            Some(Carried { id: TransferId::from_memo(&args.memo)?, args })
        }
        _ => None,
    })
}
