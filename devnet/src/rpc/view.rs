//! Blocks and chunks as nearcore prints them.
//!
//! The receipts of a chunk are in nearcore those that its shard's chunk before sent out, wherever they go. devnet keeps
//! those that came in, which are the same where there is one shard, as there is in every chain that is served.
//!
//! What devnet does not have is printed as its neutral value: nobody signs its blocks, and it commits to fewer roots.

use crate::block::{Block, Chunk};
use near_crypto::{KeyType, PublicKey, Signature};
use near_primitives::{
    account::id::AccountIdRef,
    bandwidth_scheduler::BandwidthRequests,
    hash::CryptoHash,
    receipt::Receipt,
    transaction::SignedTransaction,
    types::{AccountId, Balance},
    views::{
        BlockHeaderInnerLiteView, BlockHeaderView, BlockView, ChunkHeaderView, ChunkView, LightClientBlockLiteView,
        ReceiptView, SignedTransactionView,
    },
};
use std::sync::{Arc, LazyLock};

/// The one validator, which makes every block and every chunk.
pub(super) static VALIDATOR: LazyLock<AccountId> = LazyLock::new(|| AccountIdRef::new_or_panic("devnet").to_owned());

/// The key of the validator and of the node; nothing is signed with it.
pub(super) fn validator_key() -> PublicKey {
    PublicKey::empty(KeyType::ED25519)
}

fn unsigned() -> Signature {
    Signature::empty(KeyType::ED25519)
}

/// A block, as `block` answers it.
pub(super) fn block(block: &Block) -> BlockView {
    BlockView {
        author: VALIDATOR.clone(),
        header: block_header(block),
        chunks: block.chunks.iter().map(|chunk| chunk_header(block, chunk, block.height)).collect(),
    }
}

fn block_header(block: &Block) -> BlockHeaderView {
    let chunks = block.chunks.len();
    BlockHeaderView {
        height: block.height,
        prev_height: block.height.checked_sub(1),
        epoch_id: block.epoch_id.0,
        next_epoch_id: block.next_epoch_id.0,
        hash: block.hash,
        prev_hash: block.prev_hash,
        prev_state_root: block.commitment(|chunk| chunk.prev_state_root),
        block_body_hash: Some(block.commitment(|chunk| chunk.hash)),
        chunks_included: chunks as u64,
        outcome_root: block.commitment(|chunk| chunk.outcome_root),
        timestamp: block.timestamp_ns,
        timestamp_nanosec: block.timestamp_ns,
        random_value: block.random_value,
        chunk_mask: vec![true; chunks],
        gas_price: block.gas_price,
        block_ordinal: Some(block.height + 1),
        total_supply: block.total_supply,
        last_final_block: block.last_final_hash,
        last_ds_final_block: block.last_ds_final_hash,
        approvals: vec![Some(Box::new(unsigned()))],
        signature: unsigned(),
        latest_protocol_version: block.protocol_version,
        chunk_endorsements: Some(vec![vec![1]; chunks]),
        ..BlockHeaderView::default()
    }
}

/// A block's header as a light client has it.
pub(super) fn light_block(block: &Block) -> LightClientBlockLiteView {
    let header = block_header(block);
    LightClientBlockLiteView {
        prev_block_hash: header.prev_hash,
        inner_rest_hash: CryptoHash::default(),
        inner_lite: BlockHeaderInnerLiteView {
            height: header.height,
            epoch_id: header.epoch_id,
            next_epoch_id: header.next_epoch_id,
            prev_state_root: header.prev_state_root,
            outcome_root: header.outcome_root,
            timestamp: header.timestamp,
            timestamp_nanosec: header.timestamp_nanosec,
            next_bp_hash: header.next_bp_hash,
            block_merkle_root: header.block_merkle_root,
            chunk_execution_root: None,
        },
    }
}

fn chunk_header(block: &Block, chunk: &Chunk, height_included: u64) -> ChunkHeaderView {
    ChunkHeaderView {
        chunk_hash: chunk.hash,
        prev_block_hash: block.prev_hash,
        outcome_root: chunk.outcome_root,
        prev_state_root: chunk.prev_state_root,
        encoded_merkle_root: CryptoHash::default(),
        encoded_length: chunk.encoded_length,
        height_created: block.height,
        height_included,
        shard_id: chunk.shard_id,
        gas_used: chunk.gas_used,
        gas_limit: chunk.gas_limit,
        rent_paid: Balance::ZERO,
        validator_reward: Balance::ZERO,
        balance_burnt: chunk.balance_burnt,
        outgoing_receipts_root: CryptoHash::default(),
        tx_root: CryptoHash::default(),
        validator_proposals: Vec::new(),
        congestion_info: Some(chunk.congestion.into()),
        bandwidth_requests: Some(BandwidthRequests::empty()),
        proposed_split: Some(None),
        signature: unsigned(),
    }
}

/// A chunk of a block. nearcore prints `height_included` as 0 where the chunk was asked for by its own hash.
pub(super) fn chunk(block: &Block, chunk: &Chunk, by_its_hash: bool) -> ChunkView {
    let height_included = if by_its_hash { 0 } else { block.height };
    let transaction = |tx: &Arc<SignedTransaction>| SignedTransactionView::from(SignedTransaction::clone(tx));
    ChunkView {
        author: VALIDATOR.clone(),
        header: chunk_header(block, chunk, height_included),
        transactions: chunk.transactions.iter().map(transaction).collect(),
        receipts: chunk.receipts.iter().cloned().map(receipt).collect(),
    }
}

/// A receipt.
pub(super) fn receipt(receipt: Receipt) -> ReceiptView {
    receipt.into()
}
