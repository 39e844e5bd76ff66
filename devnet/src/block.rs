//! The values a chain publishes: blocks, chunks, outcomes. No behaviour beyond naming, hashing and adding up.

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use near_primitives::congestion_info::CongestionInfo;
use near_primitives::hash::CryptoHash;
use near_primitives::receipt::Receipt;
use near_primitives::transaction::{ExecutionOutcomeWithId, SignedTransaction};
use near_primitives::types::{Balance, EpochId, Gas, ShardId};
use near_primitives::views::{ExecutionOutcomeView, ExecutionOutcomeWithIdView};

/// One block with its chunks. Immutable once published.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// Height; genesis is 0 and none is skipped.
    pub height: u64,
    /// SHA-256 over every other field, the chunks by their own hashes.
    pub hash: CryptoHash,
    /// Hash of the block one below; all zero in genesis.
    pub prev_hash: CryptoHash,
    /// Nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// Price of gas in the chunks of the next block, in yoctoNEAR per gas.
    pub gas_price: Balance,
    /// Tokens in existence after this block, in yoctoNEAR.
    pub total_supply: Balance,
    /// The epoch of this block.
    pub epoch_id: EpochId,
    /// The epoch after it.
    pub next_epoch_id: EpochId,
    /// Number of the epoch, from 0.
    pub epoch_height: u64,
    /// Seed of the randomness that contracts of the next chunks see.
    pub random_value: CryptoHash,
    /// The latest final block as of this one (height - 2).
    pub last_final_hash: CryptoHash,
    /// The latest block that one block confirms (height - 1).
    pub last_ds_final_hash: CryptoHash,
    /// Protocol version of the chain.
    pub protocol_version: u32,
    /// What was executed: a chunk for each shard, in the order of the layout.
    pub chunks: Vec<Chunk>,
}

impl Block {
    /// This block with its hash and its chunks', once all else is there.
    pub(crate) fn sealed(mut self) -> Self {
        let height = self.height;
        self.chunks = self.chunks.into_iter().map(|chunk| chunk.sealed(height)).collect();
        let chunks: Vec<_> = self.chunks.iter().map(|chunk| chunk.hash).collect();
        self.hash = CryptoHash::hash_borsh((
            (self.height, self.prev_hash, self.timestamp_ns, self.gas_price, self.total_supply),
            (self.epoch_id, self.next_epoch_id, self.epoch_height, self.random_value),
            (self.last_final_hash, self.last_ds_final_hash, self.protocol_version, chunks),
        ));
        self
    }

    /// The chunk of a shard.
    pub fn chunk(&self, shard_id: ShardId) -> Option<&Chunk> {
        self.chunks.iter().find(|chunk| chunk.shard_id == shard_id)
    }

    /// The chunk of a hash.
    pub fn chunk_by_hash(&self, hash: &CryptoHash) -> Option<&Chunk> {
        self.chunks.iter().find(|chunk| chunk.hash == *hash)
    }

    /// The transactions of all chunks.
    pub fn transactions(&self) -> impl Iterator<Item = &Arc<SignedTransaction>> {
        self.chunks.iter().flat_map(|chunk| &chunk.transactions)
    }

    /// The receipts that arrived in all chunks.
    pub fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.chunks.iter().flat_map(|chunk| &chunk.receipts)
    }

    /// Gas burnt in all chunks.
    pub fn gas_used(&self) -> Gas {
        self.chunks.iter().fold(Gas::ZERO, |sum, chunk| sum.saturating_add(chunk.gas_used))
    }

    /// One commitment to what `root` says of each chunk.
    pub fn commitment(&self, root: impl Fn(&Chunk) -> CryptoHash) -> CryptoHash {
        CryptoHash::hash_borsh(self.chunks.iter().map(root).collect::<Vec<_>>())
    }
}

impl Chunk {
    fn sealed(mut self, height: u64) -> Self {
        let transactions: Vec<_> = self.transactions.iter().map(|transaction| *transaction.hash()).collect();
        let receipts: Vec<_> = self.receipts.iter().map(|receipt| *receipt.receipt_id()).collect();
        self.hash = CryptoHash::hash_borsh((
            (height, self.shard_id, self.prev_state_root, self.state_root, self.outcome_root),
            (transactions, receipts, self.gas_used, self.gas_limit, self.balance_burnt),
            (self.congestion, self.encoded_length),
        ));
        self
    }
}

/// The work of one shard in one block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Chunk {
    /// SHA-256 over the shard, the height, the inputs and the result.
    pub hash: CryptoHash,
    /// The shard it belongs to.
    pub shard_id: ShardId,
    /// Commitment to the shard's state before the chunk.
    pub prev_state_root: CryptoHash,
    /// Commitment to the shard's state after the chunk.
    pub state_root: CryptoHash,
    /// Commitment to the outcomes, in order.
    pub outcome_root: CryptoHash,
    /// Transactions converted, in order.
    pub transactions: Vec<Arc<SignedTransaction>>,
    /// Receipts that arrived from the previous block, in order. Local receipts are not among them.
    pub receipts: Vec<Receipt>,
    /// Gas burnt by all outcomes, refunds included.
    pub gas_used: Gas,
    /// Limit of the chunk.
    pub gas_limit: Gas,
    /// Tokens burnt by the chunk, in yoctoNEAR.
    pub balance_burnt: Balance,
    /// Load of the shard's queues after the chunk.
    pub congestion: CongestionInfo,
    /// Bytes of the transactions and receipts.
    pub encoded_length: u64,
}

/// What a block's chunks led to: everything an RPC may be asked for by id.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OutcomeRecord {
    /// Id (transaction hash or receipt id) and outcome.
    pub outcome: ExecutionOutcomeWithId,
    /// Height of the block that holds it.
    pub height: u64,
    /// Hash of the block that holds it.
    pub block_hash: CryptoHash,
}

impl OutcomeRecord {
    /// As an RPC prints it, with an empty proof.
    pub fn to_view(&self) -> ExecutionOutcomeWithIdView {
        ExecutionOutcomeWithIdView {
            proof: Vec::new(),
            block_hash: self.block_hash,
            id: self.outcome.id,
            outcome: ExecutionOutcomeView::from(self.outcome.outcome.clone()),
        }
    }
}

/// Where a transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// The transaction.
    pub transaction: Arc<SignedTransaction>,
    /// Height and hash of the block that included it; `None` while it is fixed in a chunk of the next block.
    pub included: Option<(u64, CryptoHash)>,
}
