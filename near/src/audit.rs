//! The audit's walk: every block of the run, every transaction of the run's keys in them, and how its receipt ended.
//!
//! Independent of the engine: it reads identities from the chain, and only [`nearbench_core::audit`] compares them with
//! what the run reports. Blocks are fetched by height, several at once; each must name the one before it, so that none is
//! left out unseen.

use crate::{
    Client,
    chain::{At, Block, ChunkAction, ChunkTransaction, ViewError, Wait},
    pool::TIMED_OUT,
    receipts::Payment,
    rpc::RpcError,
    token::Token,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use nearbench_core::{
    Account, Amount, Hash, Height, TransferId,
    audit::{Audit, Auditor, Balances, Expected, Found},
    backoff::Backoff,
    outcome::{BlockRef, Execution, TxStatus},
};
use rand::Rng;
use serde::Deserialize;
use std::{borrow::Cow, collections::HashSet, future::Future, time::Duration};

/// Requests under way at once.
const CONCURRENCY: usize = 16;
/// How often an outcome that is not final yet is asked for; each time the node waits some 10 s.
const OUTCOME_TRIES: usize = 6;
/// Before a receipt is looked for again that was not found in final blocks.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the end of the walk is moved on, while transactions still arrive behind it, or asked for again.
const MAX_ENDS: usize = 20;
/// Before a node that is behind is asked again for its last final block.
const BEHIND: Duration = Duration::from_millis(500);
/// How often a read that no endpoint answered in its time is made again: a walk of thousands of reads meets some.
const READS: usize = 12;
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));

/// What to audit.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The account that sent.
    pub account: &'a Account,
    /// The keys that belonged to the run alone.
    pub public_keys: &'a [String],
    /// The token.
    pub token: &'a Account,
    /// Who could receive.
    pub receivers: &'a [Account],
    /// The final block before the load.
    pub from: Height,
    /// Balances at that block.
    pub before: &'a Balances,
    /// The highest block that the run saw final: the walk ends no earlier.
    pub until: Height,
}

/// Why an audit has no result. A mismatch is a result.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The chain could not be read.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The token does not answer.
    #[error(transparent)]
    Token(#[from] ViewError),
    /// A block is missing in the node's chain.
    #[error(
        "block {height} does not follow the block before it: the node lacks blocks of the run; audit through an archival endpoint"
    )]
    Gap {
        /// Its height.
        height: Height,
    },
    /// A transaction stands in a final block, and the node does not know its outcome.
    #[error(
        "the node knows no outcome of {tx} in block {height}: audit through an endpoint that tracks the shard and keeps outcomes"
    )]
    NoOutcome {
        /// The transaction.
        tx: Hash,
        /// Its block.
        height: Height,
    },
    /// Transactions never stop.
    #[error("transactions of the run's keys keep arriving: stop whoever uses them, then audit again")]
    Endless,
}

/// Walks from the block after `scope.from` to a final block behind which nothing of the run stirs, and compares.
///
/// `expected` tells what the run reports of an identity, `succeeded` how many it reports as succeeded; `progress` hears
/// each block and the last one's height.
///
/// # Errors
/// When the chain cannot be read whole.
pub async fn audit(
    client: &Client,
    scope: &Scope<'_>,
    expected: &(dyn Fn(TransferId) -> Option<Expected> + Sync),
    succeeded: u64,
    progress: &(dyn Fn(&Block, Height) + Sync),
) -> Result<Audit, AuditError> {
    let keys: HashSet<&str> = scope.public_keys.iter().map(String::as_str).collect();
    let mut auditor = Auditor::new(expected);
    let mut reached = insist(|| client.block(At::Height(scope.from))).await?.at;
    for _ in 0..MAX_ENDS {
        let end = insist(|| client.block(At::Final)).await?.at;
        if end.height < scope.until.max(reached.height) {
            // By a node that is behind.
            tokio::time::sleep(BEHIND).await;
            continue;
        }
        let mut found = 0;
        let mut blocks =
            stream::iter(reached.height + 1..=end.height).map(|height| block_at(client, height)).buffered(CONCURRENCY);
        while let Some(block) = blocks.try_next().await? {
            let Some(block) = block else { continue };
            if block.at.prev_hash != reached.hash {
                return Err(AuditError::Gap { height: block.at.height });
            }
            reached = block.at;
            found += read_block(client, scope, &keys, &block, &mut auditor).await?;
            progress(&block, end.height);
        }
        if reached.hash != end.hash {
            return Err(AuditError::Gap { height: end.height });
        }
        // The receipts of all that was found are final by now; balances count from the next end, if nothing came after.
        if found == 0 {
            let after = balances(client, scope, &reached).await?;
            return Ok(auditor.finish(succeeded, scope.receivers, scope.before, &after));
        }
    }
    Err(AuditError::Endless)
}

async fn balances(client: &Client, scope: &Scope<'_>, at: &BlockRef) -> Result<Balances, ViewError> {
    Token { client, contract: scope.token, at: At::Hash(at.hash) }.balances(scope.account, scope.receivers).await
}

/// Reads, and reads again where no endpoint answers.
async fn insist<T, F: Future<Output = Result<T, RpcError>>>(read: impl Fn() -> F) -> Result<T, RpcError> {
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

/// Feeds one block's transactions; how many there were.
async fn read_block(
    client: &Client,
    scope: &Scope<'_>,
    keys: &HashSet<&str>,
    block: &Block,
    auditor: &mut Auditor<'_>,
) -> Result<usize, AuditError> {
    let chunks: Vec<_> = stream::iter(&block.chunks)
        .map(|hash| insist(|| client.chunk(*hash)))
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let ours =
        chunks.into_iter().flatten().filter(|tx| *tx.signer == **scope.account && keys.contains(&*tx.public_key));
    let mut outcomes = stream::iter(ours)
        .map(|tx| async {
            let succeeded = succeeded(client, scope, &tx, &block.at).await?;
            Ok::<_, AuditError>((tx, succeeded))
        })
        .buffered(CONCURRENCY);
    let mut count = 0;
    while let Some((tx, succeeded)) = outcomes.try_next().await? {
        count += 1;
        feed(scope, &tx, succeeded, auditor);
    }
    Ok(count)
}

/// Whether a transaction that stands in a final block moved anything from there: its receipt succeeded, and is final.
///
/// The same bytes may stand in two blocks, and be valid in one of them; a node shows the outcome of one of the two. Where
/// it shows nothing of this one, the changes of its key say whether it was valid here, and its receipt how it ended.
async fn succeeded(
    client: &Client,
    scope: &Scope<'_>,
    tx: &ChunkTransaction,
    block: &BlockRef,
) -> Result<bool, AuditError> {
    for _ in 0..OUTCOME_TRIES {
        let shown = insist(|| client.tx_shown(tx.hash, scope.account, Wait::Final)).await?;
        let is_here = shown.block == Some(block.hash);
        match shown.status {
            TxStatus::Landed(landed) => return Ok(is_here && landed.execution == Execution::Success),
            TxStatus::Invalid(_) if is_here => return Ok(false),
            TxStatus::Pending => continue,
            TxStatus::Unknown | TxStatus::Invalid(_) => {}
        }
        match insist(|| client.moved_key(scope.account, &tx.public_key, block.hash, tx.hash)).await? {
            Some(true) => {}
            Some(false) if shown.block.is_some() => return Ok(false),
            _ => continue,
        }
        let ids: Option<Vec<_>> = transfers_in(scope, tx).map(|transfer| Some(transfer?.0)).collect();
        let payment = Payment {
            account: scope.account,
            public_key: &tx.public_key,
            token: scope.token,
            ids: &ids.unwrap_or_default(),
        };
        if let Some(landed) = insist(|| client.executed(&payment, block.height)).await? {
            return Ok(landed.execution == Execution::Success);
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(AuditError::NoOutcome { tx: tx.hash, height: block.height })
}

#[derive(Deserialize)]
struct TransferArgs<'a> {
    #[serde(borrow)]
    receiver_id: Cow<'a, str>,
    amount: Amount,
    #[serde(borrow)]
    memo: Cow<'a, str>,
}

fn feed(scope: &Scope<'_>, tx: &ChunkTransaction, succeeded: bool, auditor: &mut Auditor<'_>) {
    // NEAR sent to oneself moves nothing: a fence, which only uses up a nonce.
    let fence = tx.receiver == tx.signer && tx.actions.iter().all(|action| *action == ChunkAction::Transfer);
    if fence {
        return;
    }
    let transfers: Vec<_> = transfers_in(scope, tx).collect();
    let anything_else = transfers.iter().any(Option::is_none);
    let found = transfers.iter().flatten().map(|(id, receiver, amount)| Found {
        id: *id,
        receiver,
        amount: *amount,
        succeeded,
    });
    auditor.transaction(found, anything_else);
}

/// The transfers in a transaction, in order; `None` for what is none of the run's.
fn transfers_in<'t>(
    scope: &Scope<'_>,
    tx: &'t ChunkTransaction,
) -> impl Iterator<Item = Option<(TransferId, Cow<'t, str>, Amount)>> {
    let to_token = *tx.receiver == **scope.token;
    tx.actions.iter().map(move |action| match action {
        ChunkAction::Call { method, args } if to_token && method == "ft_transfer" => {
            let args: TransferArgs<'_> = serde_json::from_slice(args).ok()?;
            Some((TransferId::from_memo(&args.memo)?, args.receiver_id, args.amount))
        }
        _ => None,
    })
}
