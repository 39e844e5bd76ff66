//! The chain as the node sees it that answers one request: from the first block that it keeps to its head, which may
//! be some blocks ago.
//!
//! A node that is behind knows neither blocks nor outcomes above its own head, and calls a transaction expired whose
//! base block it lacks. What is handed in through it reaches the same pools. A node that collects has neither blocks
//! nor outcomes nor states below the first one it keeps, but their headers, as nearcore has.

use crate::{
    block::{Block, OutcomeRecord, TransactionRecord},
    chain::{Chain, Submitted, shown},
    faults::AtNode,
    node::Node,
    patch::Write,
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
    is_archival: bool,
}

impl<'a> Site<'a> {
    pub(crate) fn new(node: &'a Node, endpoint: &str, at_node: &'a AtNode) -> Self {
        Self { node, at_node, is_archival: node.is_archival(endpoint) }
    }

    /// The chain, locked. Hold it for a look, never across an await.
    pub(super) fn chain(&self) -> Sight<'_> {
        let chain = self.node.chain();
        let head = chain.head().height.saturating_sub(self.at_node.behind);
        let first = if self.is_archival { 0 } else { chain.first_kept().min(head) };
        Sight { chain, first, head }
    }

    /// Hands a transaction in.
    pub(super) fn submit(&self, transaction: SignedTransaction) -> Result<Submitted, InvalidTxError> {
        let mut sight = self.chain();
        if sight.is_behind() && sight.header(transaction.transaction.block_hash()).is_none() {
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

/// The chain from the first block that the node keeps to its head.
pub(super) struct Sight<'a> {
    chain: MutexGuard<'a, Chain>,
    first: u64,
    head: u64,
}

impl Sight<'_> {
    fn is_behind(&self) -> bool {
        self.head < self.chain.head().height
    }

    fn below_head(&self, depth: u64) -> Arc<Block> {
        self.header_at(self.head.saturating_sub(depth)).expect("blocks have no holes")
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

    /// The first block that the node keeps.
    pub(super) fn earliest(&self) -> Arc<Block> {
        self.header_at(self.first).expect("blocks have no holes")
    }

    /// Whether the block of this height is not collected.
    pub(super) fn keeps(&self, height: u64) -> bool {
        self.first <= height
    }

    /// A block of which the node has the header at least: every one up to its head.
    pub(super) fn header_at(&self, height: u64) -> Option<Arc<Block>> {
        self.chain.block_at(height).filter(|_| height <= self.head)
    }

    /// The same, by its hash.
    pub(super) fn header(&self, hash: &CryptoHash) -> Option<Arc<Block>> {
        self.chain.block(hash).filter(|block| block.height <= self.head)
    }

    pub(super) fn block_of_chunk(&self, hash: &CryptoHash) -> Option<Arc<Block>> {
        self.chain.block_of_chunk(hash).filter(|block| self.has(block.height))
    }

    fn has(&self, height: u64) -> bool {
        (self.first..=self.head).contains(&height)
    }

    pub(super) fn state_at(&self, height: u64) -> Option<StateView> {
        self.has(height).then(|| self.chain.state_at(height)).flatten()
    }

    /// The state before the chunks of this height, to tell what they changed.
    pub(super) fn state_before(&self, height: u64) -> Option<StateView> {
        self.has(height).then(|| self.chain.state_at(height.saturating_sub(1))).flatten()
    }

    pub(super) fn transaction(&self, hash: &CryptoHash) -> Option<TransactionRecord> {
        let mut places = self.chain.transactions(hash);
        places.find(|record| record.included.map_or(!self.is_behind(), |(height, _)| self.has(height)))
    }

    pub(super) fn outcome(&self, id: &CryptoHash) -> Option<Arc<OutcomeRecord>> {
        shown(self.chain.outcomes(id).filter(|record| self.has(record.height)))
    }

    /// The outcome of an id in the block of this height.
    pub(super) fn outcome_in(&self, height: u64, id: &CryptoHash) -> Option<Arc<OutcomeRecord>> {
        self.chain.outcomes(id).find(|record| record.height == height)
    }

    /// What was put into the state by hand in the block of this height.
    pub(super) fn patch_in(&self, height: u64) -> Vec<Write> {
        self.chain.patch_in(height)
    }

    /// Receipts come with the outcomes that made them, which are not seen too early.
    pub(super) fn receipt(&self, id: &CryptoHash) -> Option<Arc<Receipt>> {
        self.chain.receipt(id)
    }
}
