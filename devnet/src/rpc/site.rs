//! The chain as the node sees it that answers one request: all of it, or what there was some blocks ago.
//!
//! A node that is behind knows neither blocks nor outcomes above its own head, and calls a transaction expired whose
//! base block it lacks. What is handed in through it reaches the same pools.

use crate::{
    block::{Block, OutcomeRecord, TransactionRecord},
    chain::{Chain, Submitted},
    faults::AtNode,
    node::Node,
    state::StateView,
};
use near_primitives::{errors::InvalidTxError, hash::CryptoHash, receipt::Receipt, transaction::SignedTransaction};
use std::{
    ops::Deref,
    sync::{Arc, MutexGuard},
};

/// Where a request is answered.
pub(crate) struct Site<'a> {
    node: &'a Node,
    at_node: &'a AtNode,
}

impl<'a> Site<'a> {
    pub(crate) fn new(node: &'a Node, at_node: &'a AtNode) -> Self {
        Self { node, at_node }
    }

    /// The chain, locked. Hold it for a look, never across an await.
    pub(super) fn chain(&self) -> Sight<'_> {
        let chain = self.node.chain();
        let head = chain.head().height.saturating_sub(self.at_node.behind);
        Sight { chain, head }
    }

    /// Hands a transaction in.
    pub(super) fn submit(&self, transaction: SignedTransaction) -> Result<Submitted, InvalidTxError> {
        let mut sight = self.chain();
        if sight.is_behind() && sight.block(transaction.transaction.block_hash()).is_none() {
            return Err(InvalidTxError::Expired);
        }
        sight.chain.submit_as(transaction, self.at_node.handling)
    }
}

impl Deref for Site<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node
    }
}

/// The chain up to the head of the node that answers.
pub(super) struct Sight<'a> {
    chain: MutexGuard<'a, Chain>,
    head: u64,
}

impl Sight<'_> {
    fn is_behind(&self) -> bool {
        self.head < self.chain.head().height
    }

    fn below_head(&self, depth: u64) -> Arc<Block> {
        self.chain.block_at(self.head.saturating_sub(depth)).expect("blocks have no holes")
    }

    pub(super) fn head(&self) -> Arc<Block> {
        self.below_head(0)
    }

    pub(super) fn near_final(&self) -> Arc<Block> {
        self.below_head(1)
    }

    pub(super) fn final_block(&self) -> Arc<Block> {
        self.below_head(2)
    }

    pub(super) fn block_at(&self, height: u64) -> Option<Arc<Block>> {
        self.chain.block_at(height).filter(|_| height <= self.head)
    }

    pub(super) fn block(&self, hash: &CryptoHash) -> Option<Arc<Block>> {
        self.chain.block(hash).filter(|block| block.height <= self.head)
    }

    pub(super) fn block_of_chunk(&self, hash: &CryptoHash) -> Option<Arc<Block>> {
        self.chain.block_of_chunk(hash).filter(|block| block.height <= self.head)
    }

    pub(super) fn state_at(&self, height: u64) -> Option<StateView> {
        (height <= self.head).then(|| self.chain.state_at(height)).flatten()
    }

    pub(super) fn transaction(&self, hash: &CryptoHash) -> Option<TransactionRecord> {
        let record = self.chain.transaction(hash)?;
        let is_seen = record.included.map_or(!self.is_behind(), |(height, _)| height <= self.head);
        is_seen.then_some(record)
    }

    pub(super) fn outcome(&self, id: &CryptoHash) -> Option<Arc<OutcomeRecord>> {
        self.chain.outcome(id).filter(|record| record.height <= self.head)
    }

    /// Receipts come with the outcomes that made them, which are not seen too early.
    pub(super) fn receipt(&self, id: &CryptoHash) -> Option<Arc<Receipt>> {
        self.chain.receipt(id)
    }
}
