//! `light_client_proof`, also by its older name: the outcome of a receipt or a transaction, and the block that commits
//! to it.
//!
//! As in nearcore that block is the next one with a chunk of the shard, since a chunk commits to the outcomes of the one
//! before it; both it and the head that the client knows must be final. devnet has no Merkle trees: every path is empty,
//! and a header's hash does not follow from its parts. Source: nearcore `chain/client/src/view_client_actor.rs`,
//! `GetExecutionOutcome` and `GetBlockProof`.

use super::{
    params::read,
    site::{Sight, Site},
    value, view,
};
use near_jsonrpc_primitives::{
    errors::RpcError,
    types::light_client::{
        RpcLightClientExecutionProofRequest, RpcLightClientExecutionProofResponse, RpcLightClientProofError,
    },
};
use near_primitives::{hash::CryptoHash, types::TransactionOrReceiptId, views::ExecutionOutcomeWithIdView};
use serde_json::Value;

pub(super) fn execution_proof(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcLightClientExecutionProofRequest { id, light_client_head } = read(params)?;
    let id = match id {
        TransactionOrReceiptId::Transaction { transaction_hash, .. } => transaction_hash,
        TransactionOrReceiptId::Receipt { receipt_id, .. } => receipt_id,
    };
    value(prove(&node.chain(), id, &light_client_head)?)
}

fn prove(
    chain: &Sight<'_>,
    id: CryptoHash,
    light_client_head: &CryptoHash,
) -> Result<RpcLightClientExecutionProofResponse, RpcLightClientProofError> {
    let record = chain
        .outcome(&id)
        .ok_or(RpcLightClientProofError::UnknownTransactionOrReceipt { transaction_or_receipt_id: id })?;
    let commits = chain
        .header_at(record.height + 1)
        .ok_or(RpcLightClientProofError::NotConfirmed { transaction_or_receipt_id: id })?;
    let head = chain.header(light_client_head).ok_or_else(|| RpcLightClientProofError::UnknownBlock {
        error_message: format!("BLOCK HEADER: {light_client_head}"),
    })?;
    let internal = |error_message: String| Err(RpcLightClientProofError::InternalError { error_message });
    let last_final = chain.final_block().height;
    if let Some(block) = [&commits, &head].into_iter().find(|block| block.height > last_final) {
        return internal(format!("{} not on current canonical chain", block.hash));
    }
    if commits.height > head.height {
        return internal(format!("block {} is ahead of head block {}", commits.hash, head.hash));
    }
    Ok(RpcLightClientExecutionProofResponse {
        outcome_proof: ExecutionOutcomeWithIdView { block_hash: commits.hash, ..record.to_view() },
        outcome_root_proof: Vec::new(),
        block_header_lite: view::light_block(&commits),
        block_proof: Vec::new(),
    })
}
