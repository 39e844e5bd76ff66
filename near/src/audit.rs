//! The audit: whether the chain holds each transfer of a run exactly once, and nothing else of its keys.
//!
//! Independent of the engine: it reads identities from the chain ([`crate::history`]), and only [`nearbench_core::audit`]
//! compares them with what the run reports.

use crate::{
    Client,
    chain::{At, Block, ChunkAction, ChunkTransaction, ViewError},
    history::{CONCURRENCY, HistoryError, insist, landed, transactions, transfers_in, walk},
    token::Token,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use nearbench_core::{
    Account, Height, TransferId,
    audit::{Audit, Auditor, Balances, Expected, Found},
    outcome::{BlockRef, Execution},
};
use std::{collections::HashSet, time::Duration};

/// How often the end of the walk is moved on, while transactions still arrive behind it, or asked for again.
const MAX_ENDS: usize = 20;
/// Before a node that is behind is asked again for its last final block.
const BEHIND: Duration = Duration::from_millis(500);

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
    /// The chain could not be read whole.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The token does not answer.
    #[error(transparent)]
    Token(#[from] ViewError),
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
    let mut reached = insist(|| client.block(At::Height(scope.from))).await.map_err(HistoryError::from)?.at;
    for _ in 0..MAX_ENDS {
        let end = insist(|| client.block(At::Final)).await.map_err(HistoryError::from)?.at;
        if end.height < scope.until.max(reached.height) {
            // By a node that is behind.
            tokio::time::sleep(BEHIND).await;
            continue;
        }
        let mut found = 0;
        walk(client, reached, end, async |block| {
            found += read_block(client, scope, &keys, &block, &mut auditor).await?;
            progress(&block, end.height);
            Ok(())
        })
        .await?;
        reached = end;
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

/// Feeds one block's transactions; how many there were.
async fn read_block(
    client: &Client,
    scope: &Scope<'_>,
    keys: &HashSet<&str>,
    block: &Block,
    auditor: &mut Auditor<'_>,
) -> Result<usize, HistoryError> {
    let is_ours = |tx: &ChunkTransaction| *tx.signer == **scope.account && keys.contains(&*tx.public_key);
    let ours = transactions(client, block, is_ours).await?;
    let mut outcomes = stream::iter(ours)
        .map(|tx| async {
            let landed = landed(client, scope.account, scope.token, &tx, &block.at).await?;
            Ok::<_, HistoryError>((tx, landed.is_some_and(|landed| landed.execution == Execution::Success)))
        })
        .buffered(CONCURRENCY);
    let mut count = 0;
    while let Some((tx, succeeded)) = outcomes.try_next().await? {
        count += 1;
        feed(scope, &tx, succeeded, auditor);
    }
    Ok(count)
}

fn feed(scope: &Scope<'_>, tx: &ChunkTransaction, succeeded: bool, auditor: &mut Auditor<'_>) {
    // NEAR sent to oneself moves nothing: a fence, which only uses up a nonce.
    let fence = tx.receiver == tx.signer && tx.actions.iter().all(|action| *action == ChunkAction::Transfer);
    if fence {
        return;
    }
    let transfers: Vec<_> = transfers_in(scope.token, tx).collect();
    let anything_else = transfers.iter().any(Option::is_none);
    let found = transfers.iter().flatten().map(|transfer| Found {
        id: transfer.id,
        receiver: &transfer.args.receiver_id,
        amount: transfer.args.amount,
        succeeded,
    });
    auditor.transaction(found, anything_else);
}
