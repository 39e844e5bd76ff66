//! What became of an attempt, told by its receipt: for where it is proven to be in a final block, and nobody tells its
//! outcome under its hash. Either that is collected wherever `tx` is answered from, or it is hidden: of several outcomes
//! under one hash a node shows that of the lowest block hash, be it a failure that was recorded in another chunk.
//!
//! The receipt is found by its contents in the chunks after the attempt's block, and its outcome asked for by its own id.
//! What it says of the transfers is in the token's events (NEP-297, NEP-141). A token that is the sender's own account
//! executes its receipts where the transactions are, in no chunk: of them nothing is found.
//!
//! # Whose receipt it is
//!
//! Transfers that were put back are signed anew, so that several attempts may carry the same ids. Each has a receipt of its
//! own, and each receipt is in one chunk, after the block of its attempt and not after the one that executes it. A transfer
//! has one open attempt at a time, and the next is signed only when the former's receipt was executed in a final block, or
//! when it was proven that it never will have one. So the receipts of former attempts lie before this one's block, and
//! those of later ones behind its own: in blocks that follow each other without a gap from this attempt's on, the first
//! receipt of its key that carries exactly its ids is its own.

use crate::{
    Client,
    chain::{At, Block},
    rpc::RpcError,
    views::{ActionView, ChunkView, LightProofView, ReceiptView},
};
use nearbench_core::{
    Account, Hash, Height, TransferId,
    outcome::{Execution, Landed},
};
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;

/// Blocks after the attempt's own in which its receipt is looked for. It is in the shard's next chunk, nearly always that
/// of the next block.
const MAX_BLOCKS: Height = 16;
/// What nodes say of an outcome that they do not have or cannot prove; the last of a block that is not final yet (nearcore,
/// `check_blocks_final_and_canonical`).
const NO_OUTCOME: &[&str] =
    &["UNKNOWN_TRANSACTION_OR_RECEIPT", "NOT_CONFIRMED", "UNKNOWN_BLOCK", "INCONSISTENT_STATE", "INTERNAL_ERROR"];

/// An attempt, as its receipt shows it.
#[derive(Clone, Copy, Debug)]
pub struct Payment<'a> {
    /// Who signed it.
    pub account: &'a Account,
    /// With which key.
    pub public_key: &'a str,
    /// The token that it went to.
    pub token: &'a Account,
    /// The transfers in it, in order.
    pub ids: &'a [TransferId],
}

impl Client {
    /// How the receipt of a payment ended that is in the final block of height `included`; `None` where that is not proven:
    /// the receipt was not found, not executed in a final block that another confirms, or succeeded without the events that
    /// tell of its transfers.
    ///
    /// [`Landed::block`] is the one before the block that commits to the outcome: it executed the receipt, or one before it
    /// did where the token's shard has no new chunk in it.
    ///
    /// # Errors
    /// When an endpoint that might know does not answer.
    pub async fn executed(&self, payment: &Payment<'_>, included: Height) -> Result<Option<Landed>, RpcError> {
        // A fence pays nobody, and there would be nothing to know its receipt by.
        if payment.ids.is_empty() {
            return Ok(None);
        }
        let last = self.block(At::Final).await?.at;
        let Some(receipt) = self.receipt_of(payment, included, last.height).await? else { return Ok(None) };
        let params = json!({
            "type": "receipt", "receipt_id": receipt, "receiver_id": payment.token, "light_client_head": last.hash,
        });
        let fits = |proof: &LightProofView| proof.outcome_proof.id == receipt;
        let answer = self.0.read_from_any("EXPERIMENTAL_light_client_proof", &params, NO_OUTCOME, &fits).await;
        Ok(match answer {
            Err(error) if error.fault.caused_by(NO_OUTCOME).is_some() => None,
            answer => landed(&answer?, receipt, payment),
        })
    }

    /// The id of the payment's receipt. What is in the last final block is not looked at: the block that commits to the
    /// outcomes there is not final.
    async fn receipt_of(
        &self,
        payment: &Payment<'_>,
        included: Height,
        last: Height,
    ) -> Result<Option<Hash>, RpcError> {
        let Some(mut before) = self.block_if_known(At::Height(included)).await? else { return Ok(None) };
        for height in included + 1..last.min(included.saturating_add(MAX_BLOCKS + 1)) {
            // A height without a block, or one that nobody has any more: the next block tells by its predecessor.
            let Some(block) = self.block_if_known(At::Height(height)).await? else { continue };
            if block.at.prev_hash != before.at.hash {
                return Ok(None);
            }
            for chunk in &block.chunks {
                let Some(chunk) = self.chunk_if_known(*chunk).await? else { return Ok(None) };
                if let Some(receipt) = chunk.receipts.iter().find(|receipt| is_of(receipt, payment)) {
                    return Ok(Some(receipt.receipt_id));
                }
            }
            before = block;
        }
        Ok(None)
    }
}

#[derive(Deserialize)]
struct Args<'a> {
    #[serde(borrow)]
    memo: Cow<'a, str>,
}

/// Whether a receipt carries exactly this payment.
fn is_of(receipt: &ReceiptView, payment: &Payment<'_>) -> bool {
    let Some(action) = &receipt.receipt.action else { return false };
    let id = |action: &ActionView| match action {
        ActionView::Call { call } if call.method_name == "ft_transfer" => {
            TransferId::from_memo(&serde_json::from_slice::<Args<'_>>(&call.args).ok()?.memo)
        }
        _ => None,
    };
    receipt.predecessor_id == **payment.account
        && receipt.receiver_id == **payment.token
        && action.signer_id == **payment.account
        && action.signer_public_key == payment.public_key
        && action.actions.iter().map(id).eq(payment.ids.iter().map(|id| Some(*id)))
}

/// What a proof says of a receipt.
fn landed(proof: &LightProofView, receipt: Hash, payment: &Payment<'_>) -> Option<Landed> {
    let (id, outcome) = (proof.outcome_proof.id, &proof.outcome_proof.outcome);
    let execution = outcome.execution(payment.account).filter(|_| id == receipt)?;
    if execution == Execution::Success && !tells_of(&outcome.logs, payment) {
        return None;
    }
    Some(Landed { receipt, block: proof.block_header_lite.prev_block_hash, execution, gas_burnt: outcome.gas_burnt })
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    standard: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(default, borrow)]
    data: Vec<Moved<'a>>,
}

#[derive(Deserialize)]
struct Moved<'a> {
    #[serde(default, borrow)]
    old_owner_id: Cow<'a, str>,
    #[serde(default, borrow)]
    memo: Option<Cow<'a, str>>,
}

/// Whether a token's events tell that these transfers, and no others of the sender, moved: `ft_transfer` of NEP-141, a
/// line of JSON behind `EVENT_JSON:` each (NEP-297). What a token else logs, such as a fee of its own, has no id.
fn tells_of(logs: &[String], payment: &Payment<'_>) -> bool {
    let events = logs.iter().filter_map(|log| serde_json::from_str::<Event<'_>>(log.strip_prefix("EVENT_JSON:")?).ok());
    let transfers = events.filter(|event| event.standard == "nep141" && event.event == "ft_transfer");
    let moved = transfers.flat_map(|event| event.data).filter(|moved| *moved.old_owner_id == **payment.account);
    moved.filter_map(|moved| TransferId::from_memo(&moved.memo?)).eq(payment.ids.iter().copied())
}

impl Client {
    async fn block_if_known(&self, at: At) -> Result<Option<Block>, RpcError> {
        crate::evidence::known(self.block_from_any(at).await)
    }

    async fn chunk_if_known(&self, chunk: Hash) -> Result<Option<ChunkView>, RpcError> {
        crate::evidence::known(self.chunk_from_any(chunk).await)
    }
}

#[cfg(test)]
mod tests;
