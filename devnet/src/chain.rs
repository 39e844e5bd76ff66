//! The chain: pool, chunk under way, head, history and recent states, driven by a shell that owns time.
//!
//! Block h + 1 comes about in three steps: [`Chain::fix_chunk`] takes its transactions out of the pool,
//! [`ChunkJob::execute`] runs them off any lock, [`Chain::publish`] shows the results. One chunk is under way at a
//! time. No clock, no task and no lock inside; what a transaction does is the runtime's to say.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use near_primitives::congestion_info::{
    CongestionControl, CongestionInfo, RejectTransactionReason, ShardAcceptsTransactions,
};
use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use near_primitives::receipt::{Receipt, ReceiptEnum};
use near_primitives::shard_layout::ShardLayout;
use near_primitives::transaction::SignedTransaction;
use near_primitives::types::{Balance, EpochId, Gas, ShardId};

use crate::block::{Block, Chunk, OutcomeRecord, TransactionRecord};
use crate::genesis::{Genesis, GenesisError};
use crate::history::{Body, History, HistoryError};
use crate::pool::{Inserted, Offered, Pool};
use crate::runtime::chunk::{ChunkResult, ChunkUnderWay};
use crate::runtime::verify::verify_and_charge;
use crate::runtime::view::ViewContext;
use crate::runtime::{BlockContext, Rules, genesis_state, validate_transaction};
use crate::state::{ShardState, StateView, Update};

/// Versions of the state that are kept.
const STATES_KEPT: usize = 1024;
/// The price of gas never exceeds this many times the lowest. Source: nearcore, `MAX_GAS_MULTIPLIER`.
const MAX_GAS_PRICE_FACTOR: u128 = 20;
/// The price of gas rises or falls by at most half of one part in this many a block.
const GAS_PRICE_ADJUSTMENT: u128 = 100;

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
    /// The log cannot be used.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Compiled contracts need a temporary directory.
    #[error("no temporary directory for compiled contracts: {0}; set TMPDIR to a folder that can be written")]
    ContractCache(#[source] std::io::Error),
    /// The executed chunk was not made for the next block of this chain.
    #[error("the chunk was executed for height {executed}, the next block has height {next}")]
    WrongHeight {
        /// Height the chunk was fixed for.
        executed: u64,
        /// Height of the block to publish.
        next: u64,
    },
    /// The recorded inputs do not lead to the recorded block.
    #[error(
        "block {height} is recorded as {recorded}, but its inputs lead to {replayed}: the log was written by another \
         version of this program; use that one, or give another folder"
    )]
    Diverged {
        /// Height of the first such block.
        height: u64,
        /// Its hash in the log.
        recorded: CryptoHash,
        /// Its hash when executed again.
        replayed: CryptoHash,
    },
}

/// A chunk whose contents are fixed, to be executed off any lock.
pub struct ChunkJob {
    height: u64,
    transactions: Vec<Arc<SignedTransaction>>,
    incoming: Arc<Vec<Receipt>>,
    chunk: ChunkUnderWay,
}

/// The results of a chunk, not yet visible to anyone.
pub struct ExecutedChunk {
    height: u64,
    transactions: Vec<Arc<SignedTransaction>>,
    incoming: Arc<Vec<Receipt>>,
    result: ChunkResult,
}

impl ChunkJob {
    /// Height of the block the chunk will be in.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The transactions that are in it.
    pub fn transactions(&self) -> &[Arc<SignedTransaction>] {
        &self.transactions
    }

    /// Executes the chunk. CPU only.
    pub fn execute(self) -> ExecutedChunk {
        let Self { height, transactions, incoming, chunk } = self;
        let result = chunk.execute(&incoming);
        ExecutedChunk { height, transactions, incoming, result }
    }
}

impl ExecutedChunk {
    /// Height of the block the chunk will be in.
    pub fn height(&self) -> u64 {
        self.height
    }
}

/// A chain of one process.
pub struct Chain {
    genesis: Genesis,
    rules: Arc<Rules>,
    shard_id: ShardId,
    pool: Pool,
    history: History,
    /// The latest states, up to the head's.
    states: VecDeque<ShardState>,
    /// Receipts that the next chunk executes.
    incoming: Arc<Vec<Receipt>>,
    /// Action receipts that exist and were not executed yet.
    waiting: HashMap<CryptoHash, Arc<Receipt>>,
    /// Transactions of the chunk under way.
    fixed: HashMap<CryptoHash, Arc<SignedTransaction>>,
}

impl Chain {
    /// A chain at its genesis, whose history goes into an anonymous temporary file.
    pub fn new(genesis: Genesis) -> Result<Self, ChainError> {
        let (rules, state) = begin(&genesis)?;
        Self::at_genesis(genesis, rules, state, History::anonymous()?)
    }

    /// The chain recorded in `home`, or a new one there. Recorded blocks are executed again and must come out equal.
    pub fn open(genesis: Genesis, home: &Path) -> Result<Self, ChainError> {
        let (rules, state) = begin(&genesis)?;
        let history = History::open(home, genesis.hash())?;
        Self::at_genesis(genesis, rules, state, history)
    }

    fn at_genesis(
        genesis: Genesis,
        rules: Arc<Rules>,
        state: ShardState,
        history: History,
    ) -> Result<Self, ChainError> {
        let shard_id = ShardLayout::single_shard().shard_ids().next().expect("the layout has one shard");
        let mut chain = Self {
            genesis,
            rules,
            shard_id,
            pool: Pool::default(),
            history,
            states: VecDeque::new(),
            incoming: Arc::default(),
            waiting: HashMap::new(),
            fixed: HashMap::new(),
        };
        let body = Body { block: chain.genesis_block(&state)?, outcomes: Vec::new(), other_executed: Vec::new() };
        let recorded = chain.history.next_recorded()?;
        chain.check(recorded.as_ref(), &body.block)?;
        chain.history.push(body, recorded.is_some())?;
        chain.states.push_back(state);
        while let Some(recorded) = chain.history.next_recorded()? {
            let transactions = recorded.block.chunk.transactions.clone();
            let job = chain.next_chunk(|chunk| {
                let converted = transactions.iter().filter(|transaction| chunk.convert(transaction).is_ok());
                converted.cloned().collect()
            });
            chain.extend(job.execute(), recorded.block.timestamp_ns, Some(&recorded))?;
        }
        Ok(chain)
    }

    fn check(&self, recorded: Option<&Body>, replayed: &Block) -> Result<(), ChainError> {
        match recorded {
            Some(recorded) if recorded.block.hash != replayed.hash => Err(ChainError::Diverged {
                height: recorded.block.height,
                recorded: recorded.block.hash,
                replayed: replayed.hash,
            }),
            _ => Ok(()),
        }
    }

    /// The genesis it was made from.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The only shard.
    pub fn shard_id(&self) -> ShardId {
        self.shard_id
    }

    /// Checks a transaction as an RPC node does and takes it into the pool. Nonces that are too large pass: only the
    /// chunk knows its height. Source: nearcore `chain/client/src/rpc_handler.rs`.
    pub fn submit(&mut self, tx: SignedTransaction) -> Result<Submitted, InvalidTxError> {
        self.check_validity_period(&tx)?;
        self.check_congestion(self.head().chunk.congestion)?;
        let tx = validate_transaction(&self.rules, tx)?.into_signed_tx();
        let state = Update::new(self.state().clone());
        verify_and_charge(&self.rules, &state, &tx.transaction, self.head().gas_price, None)?;
        if self.fixed.contains_key(tx.hash()) {
            return Ok(Submitted::Duplicate);
        }
        Ok(match self.pool.insert(Arc::new(tx)) {
            Inserted::New => Submitted::New,
            Inserted::Duplicate | Inserted::Full => Submitted::Duplicate,
        })
    }

    /// The base block must be on this chain and not too old.
    fn check_validity_period(&self, tx: &SignedTransaction) -> Result<(), InvalidTxError> {
        let base = self.history.height_of(tx.transaction.block_hash()).ok_or(InvalidTxError::Expired)?;
        if self.head().height > base.saturating_add(self.genesis.transaction_validity_period) {
            return Err(InvalidTxError::Expired);
        }
        Ok(())
    }

    fn check_congestion(&self, congestion: CongestionInfo) -> Result<(), InvalidTxError> {
        let control = CongestionControl::new(self.rules.config.congestion_control_config, congestion, 0);
        let ShardAcceptsTransactions::No(reason) = control.shard_accepts_transactions() else {
            return Ok(());
        };
        let shard_id = self.shard_id.into();
        Err(match reason {
            RejectTransactionReason::IncomingCongestion { congestion_level }
            | RejectTransactionReason::OutgoingCongestion { congestion_level }
            | RejectTransactionReason::MemoryCongestion { congestion_level } => {
                InvalidTxError::ShardCongested { shard_id, congestion_level }
            }
            RejectTransactionReason::MissedChunks { missed_chunks } => {
                InvalidTxError::ShardStuck { shard_id, missed_chunks }
            }
        })
    }

    /// Takes the next block's transactions out of the pool. Those that are invalid by now are dropped silently.
    pub fn fix_chunk(&mut self) -> ChunkJob {
        let config = &self.rules.config;
        let before: u64 = self.head().chunk.transactions.iter().map(|tx| tx.get_size()).sum();
        // The transactions of two consecutive chunks share one limit.
        let mut room = (config.witness_config.combined_transactions_size_limit as u64).saturating_sub(before);
        let congested = self.check_congestion(self.head().chunk.congestion).is_err();
        let mut pool = std::mem::take(&mut self.pool);
        let valid = |chain: &Self, tx: &SignedTransaction| !congested && chain.check_validity_period(tx).is_ok();
        let chain = &*self;
        let job = chain.next_chunk(|chunk| {
            let mut taken = Vec::new();
            pool.offer(|tx| {
                if !chunk.takes_transactions() || tx.get_size() > room {
                    return Offered::Full;
                }
                if !valid(chain, tx) || chunk.convert(tx).is_err() {
                    return Offered::Dropped;
                }
                room -= tx.get_size();
                taken.push(Arc::clone(tx));
                Offered::Taken
            });
            taken
        });
        self.pool = pool;
        self.fixed = job.transactions.iter().map(|tx| (*tx.hash(), Arc::clone(tx))).collect();
        job
    }

    /// The next chunk with the transactions that `convert` put into it.
    fn next_chunk(&self, convert: impl FnOnce(&mut ChunkUnderWay) -> Vec<Arc<SignedTransaction>>) -> ChunkJob {
        let head = self.head();
        let block = BlockContext {
            height: head.height + 1,
            timestamp_ns: head.timestamp_ns,
            epoch_height: (head.height + 1) / self.genesis.epoch_length,
            gas_price: head.gas_price,
            random_seed: head.random_value,
        };
        let rules = Arc::clone(&self.rules);
        let mut chunk = ChunkUnderWay::new(rules, block, self.state().clone(), head.chunk.congestion);
        let transactions = convert(&mut chunk);
        ChunkJob { height: block.height, transactions, incoming: Arc::clone(&self.incoming), chunk }
    }

    /// Makes the next block of what was executed; it is on disk, if there is a home, before this returns. A
    /// timestamp that is not after the head's becomes the next possible one.
    pub fn publish(&mut self, executed: ExecutedChunk, timestamp_ns: u64) -> Result<Arc<Block>, ChainError> {
        let timestamp_ns = timestamp_ns.max(self.head().timestamp_ns.saturating_add(1));
        self.extend(executed, timestamp_ns, None)
    }

    fn extend(
        &mut self,
        executed: ExecutedChunk,
        timestamp_ns: u64,
        recorded: Option<&Body>,
    ) -> Result<Arc<Block>, ChainError> {
        let next = self.head().height + 1;
        if executed.height != next {
            return Err(ChainError::WrongHeight { executed: executed.height, next });
        }
        let ExecutedChunk { transactions, incoming, result, .. } = executed;
        let block = self.next_block(transactions, &incoming, &result, timestamp_ns);
        self.check(recorded, &block)?;
        let ChunkResult { state, outcomes, outgoing, other_executed, .. } = result;
        for id in outcomes.iter().map(|outcome| outcome.id) {
            self.waiting.remove(&id);
        }
        let actions = outgoing.iter().filter(|receipt| !matches!(receipt.receipt(), ReceiptEnum::Data(_)));
        self.waiting.extend(actions.map(|receipt| (*receipt.receipt_id(), Arc::new(receipt.clone()))));
        self.history.push(Body { block, outcomes, other_executed }, recorded.is_some())?;
        self.states.push_back(state);
        if self.states.len() > STATES_KEPT {
            self.states.pop_front();
        }
        self.incoming = Arc::new(outgoing);
        self.fixed.clear();
        Ok(self.head())
    }

    fn genesis_block(&self, state: &ShardState) -> Result<Block, ChainError> {
        let chunk = Chunk {
            hash: CryptoHash::default(),
            shard_id: self.shard_id,
            prev_state_root: CryptoHash::default(),
            state_root: state.root(),
            outcome_root: CryptoHash::default(),
            transactions: Vec::new(),
            receipts: Vec::new(),
            gas_used: Gas::ZERO,
            gas_limit: self.rules.gas_limit,
            balance_burnt: Balance::ZERO,
            congestion: CongestionInfo::default(),
            encoded_length: 0,
        };
        let block = Block {
            height: 0,
            hash: CryptoHash::default(),
            prev_hash: CryptoHash::default(),
            timestamp_ns: self.genesis.timestamp_ns,
            gas_price: self.genesis.min_gas_price,
            total_supply: self.genesis.total_supply()?,
            epoch_id: self.epoch_id(0),
            next_epoch_id: self.epoch_id(1),
            epoch_height: 0,
            random_value: self.genesis.hash(),
            last_final_hash: CryptoHash::default(),
            last_ds_final_hash: CryptoHash::default(),
            protocol_version: self.genesis.protocol_version,
            chunk,
        };
        Ok(block.sealed())
    }

    fn next_block(
        &self,
        transactions: Vec<Arc<SignedTransaction>>,
        incoming: &[Receipt],
        result: &ChunkResult,
        timestamp_ns: u64,
    ) -> Block {
        let head = self.head();
        let height = head.height + 1;
        let gas_used =
            result.outcomes.iter().fold(Gas::ZERO, |sum, outcome| sum.saturating_add(outcome.outcome.gas_burnt));
        let outcomes: Vec<_> = result.outcomes.iter().map(|outcome| outcome.to_hashes()).collect();
        let receipts_length: usize = incoming.iter().filter_map(|receipt| borsh::object_length(receipt).ok()).sum();
        let transactions_length: u64 = transactions.iter().map(|tx| tx.get_size()).sum();
        let chunk = Chunk {
            hash: CryptoHash::default(),
            shard_id: self.shard_id,
            prev_state_root: head.chunk.state_root,
            state_root: result.state.root(),
            outcome_root: CryptoHash::hash_borsh(outcomes),
            transactions,
            receipts: incoming.to_vec(),
            gas_used,
            gas_limit: self.rules.gas_limit,
            balance_burnt: result.burnt,
            congestion: result.congestion,
            encoded_length: transactions_length + receipts_length as u64,
        };
        let epoch_height = height / self.genesis.epoch_length;
        let total_supply = head.total_supply.saturating_add(result.subsidized).saturating_sub(result.burnt);
        let block = Block {
            height,
            hash: CryptoHash::default(),
            prev_hash: head.hash,
            timestamp_ns,
            gas_price: next_gas_price(head.gas_price, gas_used, self.rules.gas_limit, self.genesis.min_gas_price),
            total_supply,
            epoch_id: self.epoch_id(epoch_height),
            next_epoch_id: self.epoch_id(epoch_height + 1),
            epoch_height,
            random_value: CryptoHash::hash_borsh((head.random_value, height)),
            last_final_hash: self.hash_below(height, 2),
            last_ds_final_hash: self.hash_below(height, 1),
            protocol_version: self.genesis.protocol_version,
            chunk,
        };
        block.sealed()
    }

    /// Hash of the block `depth` below a height; genesis stands for all that would be below it.
    fn hash_below(&self, height: u64, depth: u64) -> CryptoHash {
        self.history.hash_at(height.saturating_sub(depth)).expect("blocks have no holes")
    }

    fn epoch_id(&self, epoch_height: u64) -> EpochId {
        EpochId(CryptoHash::hash_borsh((self.genesis.hash(), epoch_height)))
    }

    fn state(&self) -> &ShardState {
        self.states.back().expect("a chain has its genesis state")
    }

    /// The latest block.
    pub fn head(&self) -> Arc<Block> {
        Arc::clone(&self.history.latest().block)
    }

    /// The latest block that one more confirms.
    pub fn near_final(&self) -> Arc<Block> {
        self.below_head(1)
    }

    /// The latest final block.
    pub fn final_block(&self) -> Arc<Block> {
        self.below_head(2)
    }

    fn below_head(&self, depth: u64) -> Arc<Block> {
        let height = self.head().height.saturating_sub(depth);
        self.block_at(height).expect("blocks have no holes")
    }

    /// The block of a height.
    pub fn block_at(&self, height: u64) -> Option<Arc<Block>> {
        Some(Arc::clone(&self.history.at(height)?.block))
    }

    /// The block of a hash.
    pub fn block(&self, hash: &CryptoHash) -> Option<Arc<Block>> {
        self.block_at(self.history.height_of(hash)?)
    }

    /// The block that holds a chunk.
    pub fn block_of_chunk(&self, chunk_hash: &CryptoHash) -> Option<Arc<Block>> {
        self.history
            .find(chunk_hash, |record| (record.block.chunk.hash == *chunk_hash).then(|| Arc::clone(&record.block)))
    }

    /// State after the block of this height; `None` above the head or once collected.
    pub fn state_at(&self, height: u64) -> Option<StateView> {
        let head = self.head().height;
        let first = (head + 1).checked_sub(self.states.len() as u64)?;
        let shard = self.states.get(usize::try_from(height.checked_sub(first)?).ok()?)?;
        let block = self.block_at(height)?;
        let block = BlockContext {
            height,
            timestamp_ns: block.timestamp_ns,
            epoch_height: block.epoch_height,
            gas_price: block.gas_price,
            random_seed: block.random_value,
        };
        Some(StateView::new(shard.clone(), ViewContext { rules: Arc::clone(&self.rules), block }))
    }

    /// A transaction in a published block, or fixed in the next chunk.
    pub fn transaction(&self, hash: &CryptoHash) -> Option<TransactionRecord> {
        if let Some(transaction) = self.fixed.get(hash) {
            return Some(TransactionRecord { transaction: Arc::clone(transaction), included: None });
        }
        self.history.find(hash, |record| {
            let transaction = record.transaction(hash)?;
            Some(TransactionRecord { transaction, included: Some((record.block.height, record.block.hash)) })
        })
    }

    /// The outcome of a transaction's conversion or of a receipt, in a published block.
    pub fn outcome(&self, id: &CryptoHash) -> Option<Arc<OutcomeRecord>> {
        self.history.find(id, |record| record.outcome(id))
    }

    /// A receipt that was executed or waits to be.
    pub fn receipt(&self, id: &CryptoHash) -> Option<Arc<Receipt>> {
        self.waiting.get(id).cloned().or_else(|| self.history.find(id, |record| record.receipt(id)))
    }
}

/// Rules and state of a genesis.
fn begin(genesis: &Genesis) -> Result<(Arc<Rules>, ShardState), ChainError> {
    genesis.validate()?;
    let rules = Rules::new(&genesis.chain_id, genesis.protocol_version, genesis.gas_limit)
        .map_err(ChainError::ContractCache)?;
    let state = genesis_state(&rules, genesis)?;
    Ok((Arc::new(rules), state))
}

/// The price after a block: more than half a chunk raises it, less lowers it.
/// Source: nearcore `core/primitives/src/block.rs`, `compute_next_gas_price`.
fn next_gas_price(current: Balance, used: Gas, limit: Gas, min: Balance) -> Balance {
    let (used, limit) = (u128::from(used.as_gas()), u128::from(limit.as_gas()));
    let numerator = (2 * GAS_PRICE_ADJUSTMENT - 1) * limit + 2 * used;
    let next = current.as_yoctonear().saturating_mul(numerator) / (2 * GAS_PRICE_ADJUSTMENT * limit);
    let min = min.as_yoctonear();
    Balance::from_yoctonear(next.clamp(min, min.saturating_mul(MAX_GAS_PRICE_FACTOR)))
}
