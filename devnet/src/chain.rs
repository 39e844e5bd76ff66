//! The chain: pool, chunk under way, head, history and recent states, driven by a shell that owns time.
//! No clock, no task and no lock inside.

use std::path::Path;
use std::sync::Arc;

use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use near_primitives::receipt::Receipt;
use near_primitives::transaction::SignedTransaction;

use crate::block::{Block, OutcomeRecord, TransactionRecord};
use crate::genesis::{Genesis, GenesisError};
use crate::state::StateView;

/// What became of a valid transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is in the pool now.
    New,
    /// It was there already, or the pool is full: an RPC node answers both as if it were new.
    Duplicate,
}

/// Why a chain could not be opened or go on.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The genesis is wrong.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The executed chunk was not made for the next block of this chain.
    #[error("the chunk was executed for height {executed}, the next block has height {next}")]
    WrongHeight {
        /// Height the chunk was fixed for.
        executed: u64,
        /// Height of the block to publish.
        next: u64,
    },
}

/// A chunk whose contents are fixed, to be executed off any lock.
pub struct ChunkJob {
    height: u64,
}

/// The results of a chunk, not yet visible to anyone.
pub struct ExecutedChunk {
    height: u64,
}

impl ChunkJob {
    /// Height of the block the chunk will be in.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Executes the chunk. CPU only.
    pub fn execute(self) -> ExecutedChunk {
        unimplemented!()
    }
}

impl ExecutedChunk {
    /// Height of the block the chunk will be in.
    pub fn height(&self) -> u64 {
        self.height
    }
}

/// A chain of one process.
pub struct Chain;

impl Chain {
    /// A chain at its genesis, whose history goes into an anonymous temporary file.
    pub fn new(_genesis: Genesis) -> Result<Self, ChainError> {
        unimplemented!()
    }

    /// The chain recorded in `home`, or a new one there.
    pub fn open(_genesis: Genesis, _home: &Path) -> Result<Self, ChainError> {
        unimplemented!()
    }

    /// The genesis it was made from.
    pub fn genesis(&self) -> &Genesis {
        unimplemented!()
    }

    /// Checks a transaction as an RPC node does and takes it into the pool.
    pub fn submit(&mut self, _tx: SignedTransaction) -> Result<Submitted, InvalidTxError> {
        unimplemented!()
    }

    /// Takes the next block's transactions out of the pool.
    pub fn fix_chunk(&mut self) -> ChunkJob {
        unimplemented!()
    }

    /// Makes the next block of what was executed; it is on disk, if there is a home, before this returns.
    pub fn publish(
        &mut self,
        _executed: ExecutedChunk,
        _timestamp_ns: u64,
    ) -> Result<Arc<Block>, ChainError> {
        unimplemented!()
    }

    /// The latest block.
    pub fn head(&self) -> Arc<Block> {
        unimplemented!()
    }

    /// The latest block that one more confirms.
    pub fn near_final(&self) -> Arc<Block> {
        unimplemented!()
    }

    /// The latest final block.
    pub fn final_block(&self) -> Arc<Block> {
        unimplemented!()
    }

    /// The block of a height.
    pub fn block_at(&self, _height: u64) -> Option<Arc<Block>> {
        unimplemented!()
    }

    /// The block of a hash.
    pub fn block(&self, _hash: &CryptoHash) -> Option<Arc<Block>> {
        unimplemented!()
    }

    /// The block that holds a chunk.
    pub fn block_of_chunk(&self, _chunk_hash: &CryptoHash) -> Option<Arc<Block>> {
        unimplemented!()
    }

    /// State after the block of this height; `None` above the head or once collected.
    pub fn state_at(&self, _height: u64) -> Option<StateView> {
        unimplemented!()
    }

    /// A transaction in a published block, or fixed in the next chunk.
    pub fn transaction(&self, _hash: &CryptoHash) -> Option<TransactionRecord> {
        unimplemented!()
    }

    /// The outcome of a transaction's conversion or of a receipt, in a published block.
    pub fn outcome(&self, _id: &CryptoHash) -> Option<Arc<OutcomeRecord>> {
        unimplemented!()
    }

    /// A receipt that was executed or waits to be.
    pub fn receipt(&self, _id: &CryptoHash) -> Option<Arc<Receipt>> {
        unimplemented!()
    }
}
