//! The chain: shards with their pools, receipts and recent states, the block under way, head and history, driven by a
//! shell that owns time.
//!
//! Block h + 1 comes about in three steps: [`Chain::fix_chunks`] takes its transactions out of the pools,
//! [`BlockJob::execute`] runs them off any lock, [`Chain::publish`] shows the results. One block is under way at a
//! time. A transaction goes to its signer's shard, a receipt to its receiver's; which that is the layout of the genesis
//! says, and nothing else here knows how many shards there are. No clock, no task and no lock inside; what a transaction does is the runtime's to say.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use near_primitives::account::Account;
use near_primitives::congestion_info::{
    CongestionControl, CongestionInfo, RejectTransactionReason, ShardAcceptsTransactions,
};
use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use near_primitives::receipt::{Receipt, ReceiptEnum};
use near_primitives::state_record::StateRecord;
use near_primitives::transaction::SignedTransaction;
use near_primitives::trie_key::TrieKey;
use near_primitives::types::{AccountId, Balance, EpochId, Gas, ShardId};

use crate::block::{Block, Chunk, OutcomeRecord, TransactionRecord};
use crate::faults::Handling;
use crate::genesis::{Genesis, GenesisError};
use crate::history::{Body, History, HistoryError};
use crate::patch::{self, PatchError, Write};
use crate::pool::{Inserted, Offered, Pool};
use crate::runtime::chunk::{ChunkResult, ChunkUnderWay};
use crate::runtime::verify::verify_and_charge;
use crate::runtime::view::ViewContext;
use crate::runtime::{BlockContext, Rules, genesis_states, validate_transaction};
use crate::state::{ShardState, StateView, Update};

/// Versions of the state that are kept at least, where nothing is collected sooner, and how many changed keys in all
/// may be kept beyond them: of an idle chain every version, of a loaded one those of its last minutes.
const STATES_AT_LEAST: usize = 1024;
const CHANGES_AT_MOST: usize = 100_000;
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
    /// The executed chunks were not made for the next block of this chain.
    #[error("the chunks were executed for height {executed}, the next block has height {next}")]
    WrongHeight {
        /// Height the chunks were fixed for.
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

/// How a chain goes on that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Height of the latest block that was recorded.
    pub height: u64,
    /// Bytes of the next block's record, which was never finished and is cut off; usually none.
    pub cut_off: u64,
}

/// What a chain keeps of its past. Its log keeps every block in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Epochs whose blocks are kept, that of the head included; what is older is collected. `None` keeps everything.
    pub epochs: Option<u64>,
    /// What is collected may still be read: it is told apart by [`Chain::first_kept`], and nothing is dropped.
    pub archival: bool,
}

/// The chunks of the next block, their contents fixed, to be executed off any lock.
pub struct BlockJob {
    height: u64,
    patch: Vec<Write>,
    chunks: Vec<ChunkJob>,
}

struct ChunkJob {
    shard_id: ShardId,
    transactions: Vec<Arc<SignedTransaction>>,
    incoming: Arc<Vec<Receipt>>,
    chunk: ChunkUnderWay,
}

/// The results of a block's chunks, not yet visible to anyone.
pub struct ExecutedBlock {
    height: u64,
    patch: Vec<Write>,
    chunks: Vec<ExecutedChunk>,
}

struct ExecutedChunk {
    shard_id: ShardId,
    transactions: Vec<Arc<SignedTransaction>>,
    incoming: Arc<Vec<Receipt>>,
    result: ChunkResult,
}

impl BlockJob {
    /// Height of the block the chunks will be in.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The transactions that are in the chunks.
    pub fn transactions(&self) -> impl Iterator<Item = &Arc<SignedTransaction>> {
        self.chunks.iter().flat_map(|chunk| &chunk.transactions)
    }

    /// Executes the chunks. CPU only.
    pub fn execute(self) -> ExecutedBlock {
        let Self { height, patch, chunks } = self;
        ExecutedBlock { height, patch, chunks: chunks.into_iter().map(ChunkJob::execute).collect() }
    }
}

impl ChunkJob {
    fn execute(self) -> ExecutedChunk {
        let Self { shard_id, transactions, incoming, chunk } = self;
        let result = chunk.execute(&incoming);
        ExecutedChunk { shard_id, transactions, incoming, result }
    }
}

impl ExecutedBlock {
    /// Height of the block the chunks will be in.
    pub fn height(&self) -> u64 {
        self.height
    }
}

/// What a shard holds between two blocks. Delayed and postponed receipts are in its state.
struct Shard {
    pool: Pool,
    /// The latest states, up to the head's.
    states: VecDeque<ShardState>,
    /// Keys changed in them, all added up.
    changes: usize,
    /// Receipts that its next chunk executes, in order.
    incoming: Arc<Vec<Receipt>>,
}

impl Shard {
    fn at_genesis(state: ShardState) -> Self {
        Self {
            pool: Pool::default(),
            changes: state.changes(),
            states: VecDeque::from([state]),
            incoming: Arc::default(),
        }
    }

    fn state(&self) -> &ShardState {
        self.states.back().expect("a shard has its genesis state")
    }

    /// Takes the state after the next block, and drops those below a height and those that there is no room for.
    fn push(&mut self, state: ShardState, height: u64, first_kept: u64) {
        self.changes += state.changes();
        self.states.push_back(state);
        let kept = usize::try_from(height.saturating_sub(first_kept)).unwrap_or(usize::MAX).saturating_add(1);
        while self.states.len() > kept || (self.states.len() > STATES_AT_LEAST && self.changes > CHANGES_AT_MOST) {
            let Some(old) = self.states.pop_front() else { break };
            self.changes -= old.changes();
        }
    }
}

/// A chain of one process.
pub struct Chain {
    genesis: Genesis,
    retention: Retention,
    rules: Arc<Rules>,
    shards: BTreeMap<ShardId, Shard>,
    history: History,
    /// Action receipts of all shards that exist and were not executed yet, to be found by their id.
    waiting: HashMap<CryptoHash, Arc<Receipt>>,
    /// Transactions of the block under way.
    fixed: HashMap<CryptoHash, Arc<SignedTransaction>>,
    /// Transactions that reach their pools with the chunks of a height, on the way until then.
    held_back: BTreeMap<u64, Vec<Arc<SignedTransaction>>>,
    /// Transactions that are in the chunks of a height unchecked, behind those of the pools.
    unchecked: BTreeMap<u64, Vec<Arc<SignedTransaction>>>,
    /// What is put into the state before the next chunks.
    patch: Vec<Write>,
    /// Height of the chunks that were fixed last.
    fixed_height: u64,
    resumed: Option<Resumed>,
}

impl Chain {
    /// A chain at its genesis that keeps everything, and whose history goes into an anonymous temporary file.
    pub fn new(genesis: Genesis) -> Result<Self, ChainError> {
        Self::with_retention(genesis, Retention::default())
    }

    /// The same that keeps what it is told to.
    pub fn with_retention(genesis: Genesis, retention: Retention) -> Result<Self, ChainError> {
        let (rules, states) = begin(&genesis)?;
        let history = History::anonymous(segment(&genesis, retention))?;
        Self::at_genesis(genesis, retention, rules, states, history)
    }

    /// The chain recorded in `home`, or a new one there. Recorded blocks are executed again and must come out equal.
    pub fn open(genesis: Genesis, retention: Retention, home: &Path) -> Result<Self, ChainError> {
        let (rules, states) = begin(&genesis)?;
        let history = History::open(home, genesis.hash(), segment(&genesis, retention))?;
        Self::at_genesis(genesis, retention, rules, states, history)
    }

    fn at_genesis(
        genesis: Genesis,
        retention: Retention,
        rules: Arc<Rules>,
        states: BTreeMap<ShardId, ShardState>,
        history: History,
    ) -> Result<Self, ChainError> {
        let mut chain = Self {
            genesis,
            retention,
            rules,
            shards: states.into_iter().map(|(shard_id, state)| (shard_id, Shard::at_genesis(state))).collect(),
            history,
            waiting: HashMap::new(),
            fixed: HashMap::new(),
            held_back: BTreeMap::new(),
            unchecked: BTreeMap::new(),
            patch: Vec::new(),
            fixed_height: 0,
            resumed: None,
        };
        let body =
            Body { block: chain.genesis_block()?, outcomes: Vec::new(), other_executed: Vec::new(), patch: Vec::new() };
        let recorded = chain.history.next_recorded()?;
        chain.check(recorded.as_ref(), &body.block)?;
        let is_recorded = recorded.is_some();
        chain.history.push(body, is_recorded)?;
        while let Some(recorded) = chain.history.next_recorded()? {
            let job = chain.next_chunks(recorded.patch.clone(), |before, chunk| {
                let of_shard = recorded.block.chunk(before.shard_id).into_iter();
                let transactions: Vec<_> = of_shard.flat_map(|chunk| &chunk.transactions).cloned().collect();
                for transaction in &transactions {
                    chunk.include(transaction, chain.check_validity_period(transaction).err());
                }
                transactions
            });
            chain.extend(job.execute(), recorded.block.timestamp_ns, Some(&recorded))?;
        }
        let resumed = Resumed { height: chain.head().height, cut_off: chain.history.cut_off() };
        chain.resumed = is_recorded.then_some(resumed);
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

    /// What was recorded when the chain was opened; `None` for a new one.
    pub fn resumed(&self) -> Option<Resumed> {
        self.resumed
    }

    /// Checks a transaction as an RPC node does and takes it into the pool. Nonces that are too large pass: only the
    /// chunk knows its height. Source: nearcore `chain/client/src/rpc_handler.rs`.
    pub fn submit(&mut self, tx: SignedTransaction) -> Result<Submitted, InvalidTxError> {
        self.submit_as(tx, Handling::Take)
    }

    /// The same, and then does with a valid transaction as it is told.
    pub fn submit_as(&mut self, tx: SignedTransaction, handling: Handling) -> Result<Submitted, InvalidTxError> {
        let head = self.head();
        self.check_validity_period(&tx)?;
        let receiver_shard = self.shard_of(tx.transaction.receiver_id());
        self.check_congestion(head.chunk(receiver_shard).expect("a block has a chunk for each shard"))?;
        if handling == Handling::Congested {
            let (shard_id, congestion_level) = (receiver_shard.into(), 1.0.try_into().expect("one is a number"));
            return Err(InvalidTxError::ShardCongested { shard_id, congestion_level });
        }
        let tx = validate_transaction(&self.rules, tx)?.into_signed_tx();
        let signer_shard = self.shard_of(tx.transaction.signer_id());
        let shard = self.shards.get_mut(&signer_shard).expect("the layout lists every shard");
        let state = Update::new(shard.state().clone());
        verify_and_charge(&self.rules, &state, &tx.transaction, head.gas_price, None)?;
        if self.fixed.contains_key(tx.hash()) {
            return Ok(Submitted::Duplicate);
        }
        match handling {
            Handling::Take | Handling::Congested => {}
            Handling::Drop => return Ok(Submitted::Duplicate),
            Handling::HoldBack { blocks } => {
                self.held_back.entry(head.height + 1 + blocks).or_default().push(Arc::new(tx));
                return Ok(Submitted::New);
            }
            Handling::Unchecked { blocks } => {
                self.unchecked.entry(head.height + 1 + blocks).or_default().push(Arc::new(tx));
                return Ok(Submitted::New);
            }
        }
        Ok(match shard.pool.insert(Arc::new(tx)) {
            Inserted::New => Submitted::New,
            Inserted::Duplicate | Inserted::Full => Submitted::Duplicate,
        })
    }

    fn shard_of(&self, account_id: &AccountId) -> ShardId {
        self.rules.layout.account_id_to_shard_id(account_id)
    }

    /// The base block must be on this chain and not too old.
    fn check_validity_period(&self, tx: &SignedTransaction) -> Result<(), InvalidTxError> {
        let base = self.history.height_of(tx.transaction.block_hash()).ok_or(InvalidTxError::Expired)?;
        if self.head().height > base.saturating_add(self.genesis.transaction_validity_period) {
            return Err(InvalidTxError::Expired);
        }
        Ok(())
    }

    /// The shard of the chunk must have room for more receipts.
    fn check_congestion(&self, chunk: &Chunk) -> Result<(), InvalidTxError> {
        let control = CongestionControl::new(self.rules.config.congestion_control_config, chunk.congestion, 0);
        let ShardAcceptsTransactions::No(reason) = control.shard_accepts_transactions() else {
            return Ok(());
        };
        let shard_id = chunk.shard_id.into();
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

    /// For each shard, how many transactions wait in its pool, and their bytes.
    pub fn pool_sizes(&self) -> impl Iterator<Item = (ShardId, (u64, u64))> {
        self.shards.iter().map(|(&shard_id, shard)| (shard_id, shard.pool.size()))
    }

    /// Forgets every transaction that is in no chunk yet.
    pub fn empty_pools(&mut self) {
        self.held_back.clear();
        self.unchecked.clear();
        for shard in self.shards.values_mut() {
            shard.pool.clear();
        }
    }

    /// Puts records into the state before the next chunks, and returns the height of the block that has them.
    ///
    /// # Errors
    /// A record cannot be put into the state; then none is.
    pub fn patch(&mut self, records: Vec<StateRecord>) -> Result<u64, PatchError> {
        let code_hash = |account_id: &AccountId| {
            let of_account = |write: &Write| match write.record()? {
                StateRecord::Account { account_id: of, account } if of == *account_id => Some(account),
                _ => None,
            };
            let state = self.shards.get(&self.shard_of(account_id)).expect("the layout lists every shard").state();
            let before = || state.get::<Account>(&TrieKey::Account { account_id: account_id.clone() });
            let account = self.patch.iter().rev().find_map(of_account).or_else(before)?;
            Some(account.local_contract_hash().unwrap_or_default())
        };
        let writes = patch::writes(records, code_hash)?;
        self.patch.extend(writes);
        Ok(self.head().height.max(self.fixed_height) + 1)
    }

    /// What was put into the state by hand in a block.
    pub fn patch_in(&self, height: u64) -> Vec<Write> {
        self.history.at(height).map(|record| record.patch.clone()).unwrap_or_default()
    }

    /// Takes the next block's transactions out of the pools. Those that are invalid by now are dropped silently, but for
    /// those that nobody checks.
    pub fn fix_chunks(&mut self) -> BlockJob {
        let head = self.head();
        let later = self.held_back.split_off(&(head.height + 2));
        for tx in std::mem::replace(&mut self.held_back, later).into_values().flatten() {
            let shard_id = self.shard_of(tx.transaction.signer_id());
            // What was handed in again meanwhile is there already.
            let _ = self.shards.get_mut(&shard_id).expect("the layout lists every shard").pool.insert(tx);
        }
        let later = self.unchecked.split_off(&(head.height + 2));
        let unchecked: Vec<_> = std::mem::replace(&mut self.unchecked, later).into_values().flatten().collect();
        let congested: HashSet<ShardId> =
            head.chunks.iter().filter(|chunk| self.check_congestion(chunk).is_err()).map(|c| c.shard_id).collect();
        let mut pools: BTreeMap<ShardId, Pool> =
            self.shards.iter_mut().map(|(&shard_id, shard)| (shard_id, std::mem::take(&mut shard.pool))).collect();
        let patch = std::mem::take(&mut self.patch);
        let chain = &*self;
        let valid = |tx: &SignedTransaction| {
            let receiver_shard = chain.shard_of(tx.transaction.receiver_id());
            !congested.contains(&receiver_shard) && chain.check_validity_period(tx).is_ok()
        };
        let job = chain.next_chunks(patch, |before, chunk| {
            let size_before: u64 = before.transactions.iter().map(|tx| tx.get_size()).sum();
            // The transactions of two consecutive chunks share one limit.
            let limit = chain.rules.config.witness_config.combined_transactions_size_limit as u64;
            let mut room = limit.saturating_sub(size_before);
            let mut taken = Vec::new();
            let Some(pool) = pools.get_mut(&before.shard_id) else {
                return taken;
            };
            pool.offer(|tx| {
                if !chunk.takes_transactions() || tx.get_size() > room {
                    return Offered::Full;
                }
                if !valid(tx) || chunk.convert(tx).is_err() {
                    return Offered::Dropped;
                }
                room -= tx.get_size();
                taken.push(Arc::clone(tx));
                Offered::Taken
            });
            for tx in unchecked.iter().filter(|tx| chain.shard_of(tx.transaction.signer_id()) == before.shard_id) {
                // nearcore skips what is twice in a chunk.
                if tx.get_size() <= room && taken.iter().all(|other| other.hash() != tx.hash()) {
                    chunk.include(tx, chain.check_validity_period(tx).err());
                    room -= tx.get_size();
                    taken.push(Arc::clone(tx));
                }
            }
            taken
        });
        for (shard_id, shard) in &mut self.shards {
            shard.pool = pools.remove(shard_id).unwrap_or_default();
        }
        self.fixed_height = job.height;
        self.fixed = job.transactions().map(|tx| (*tx.hash(), Arc::clone(tx))).collect();
        job
    }

    /// The next chunks, each on top of its shard's chunk in the head and of the patch, with the transactions that `convert` put into it.
    fn next_chunks(
        &self,
        patch: Vec<Write>,
        mut convert: impl FnMut(&Chunk, &mut ChunkUnderWay) -> Vec<Arc<SignedTransaction>>,
    ) -> BlockJob {
        let head = self.head();
        let block = BlockContext {
            height: head.height + 1,
            timestamp_ns: head.timestamp_ns,
            epoch_height: (head.height + 1) / self.genesis.epoch_length,
            gas_price: head.gas_price,
            random_seed: head.random_value,
        };
        let next_chunk = |before: &Chunk| {
            let shard_id = before.shard_id;
            let shard = self.shards.get(&shard_id).expect("a chunk is of a shard of the layout");
            let mut chunk =
                ChunkUnderWay::new(Arc::clone(&self.rules), block, shard.state().clone(), before.congestion);
            chunk.patch(patch.iter().filter(|write| self.shard_of(&write.account_id) == shard_id));
            let transactions = convert(before, &mut chunk);
            ChunkJob { shard_id, transactions, incoming: Arc::clone(&shard.incoming), chunk }
        };
        let chunks = head.chunks.iter().map(next_chunk).collect();
        BlockJob { height: block.height, patch, chunks }
    }

    /// Makes the next block of what was executed; it is on disk, if there is a home, before this returns. A
    /// timestamp that is not after the head's becomes the next possible one.
    pub fn publish(&mut self, executed: ExecutedBlock, timestamp_ns: u64) -> Result<Arc<Block>, ChainError> {
        let timestamp_ns = timestamp_ns.max(self.head().timestamp_ns.saturating_add(1));
        self.extend(executed, timestamp_ns, None)
    }

    fn extend(
        &mut self,
        executed: ExecutedBlock,
        timestamp_ns: u64,
        recorded: Option<&Body>,
    ) -> Result<Arc<Block>, ChainError> {
        let next = self.head().height + 1;
        if executed.height != next {
            return Err(ChainError::WrongHeight { executed: executed.height, next });
        }
        let block = self.next_block(&executed.chunks, timestamp_ns);
        self.check(recorded, &block)?;
        let mut body = Body { block, outcomes: Vec::new(), other_executed: Vec::new(), patch: executed.patch };
        let mut states = BTreeMap::new();
        let mut incoming = BTreeMap::<ShardId, Vec<Receipt>>::new();
        for ExecutedChunk { shard_id, result, .. } in executed.chunks {
            let ChunkResult { state, outcomes, outgoing, other_executed, .. } = result;
            states.insert(shard_id, state);
            body.outcomes.extend(outcomes);
            body.other_executed.extend(other_executed);
            for (receiving_shard, receipts) in outgoing {
                incoming.entry(receiving_shard).or_default().extend(receipts);
            }
        }
        for id in body.outcomes.iter().map(|outcome| outcome.id) {
            self.waiting.remove(&id);
        }
        let sent = incoming.values().flatten();
        let actions = sent.filter(|receipt| !matches!(receipt.receipt(), ReceiptEnum::Data(_)));
        self.waiting.extend(actions.map(|receipt| (*receipt.receipt_id(), Arc::new(receipt.clone()))));
        self.history.push(body, recorded.is_some())?;
        let first_kept = if self.retention.archival { 0 } else { self.first_kept() };
        self.history.collect_below(first_kept);
        for (shard_id, shard) in &mut self.shards {
            let state = states.remove(shard_id).expect("a block has a chunk for each shard");
            // One more: what the first block changed is told by the state before it.
            shard.push(state, next, first_kept.saturating_sub(1));
            shard.incoming = Arc::new(incoming.remove(shard_id).unwrap_or_default());
        }
        self.fixed.clear();
        Ok(self.head())
    }

    /// Height of the first block that a node which collects still has, with its outcomes and its state: the last one
    /// before the epochs that it keeps. Source: nearcore `chain/chain/src/garbage_collection.rs`, `clear_data`, which
    /// collects the blocks before the tail, and leaves the tail one below `get_gc_stop_height`.
    pub fn first_kept(&self) -> u64 {
        let Some(epochs) = self.retention.epochs else { return 0 };
        let first_epoch = self.head().epoch_height.saturating_add(1).saturating_sub(epochs);
        first_epoch.saturating_mul(self.genesis.epoch_length).saturating_sub(1)
    }

    fn genesis_block(&self) -> Result<Block, ChainError> {
        let chunk = |shard_id: ShardId| Chunk {
            hash: CryptoHash::default(),
            shard_id,
            prev_state_root: CryptoHash::default(),
            state_root: self.shards.get(&shard_id).expect("the layout lists every shard").state().root(),
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
            chunks: self.rules.layout.shard_ids().map(chunk).collect(),
        };
        Ok(block.sealed())
    }

    fn next_block(&self, executed: &[ExecutedChunk], timestamp_ns: u64) -> Block {
        let head = self.head();
        let height = head.height + 1;
        let chunks: Vec<_> = head.chunks.iter().zip(executed).map(|(before, next)| self.chunk(before, next)).collect();
        let gas_used: u128 = chunks.iter().map(|chunk| u128::from(chunk.gas_used.as_gas())).sum();
        let gas_limit: u128 = chunks.iter().map(|chunk| u128::from(chunk.gas_limit.as_gas())).sum();
        let total_supply = executed.iter().fold(head.total_supply, |supply, ExecutedChunk { result, .. }| {
            supply.saturating_add(result.subsidized).saturating_sub(result.burnt)
        });
        let epoch_height = height / self.genesis.epoch_length;
        let block = Block {
            height,
            hash: CryptoHash::default(),
            prev_hash: head.hash,
            timestamp_ns,
            gas_price: next_gas_price(head.gas_price, gas_used, gas_limit, self.genesis.min_gas_price),
            total_supply,
            epoch_id: self.epoch_id(epoch_height),
            next_epoch_id: self.epoch_id(epoch_height + 1),
            epoch_height,
            random_value: CryptoHash::hash_borsh((head.random_value, height)),
            last_final_hash: self.hash_below(height, 2),
            last_ds_final_hash: self.hash_below(height, 1),
            protocol_version: self.genesis.protocol_version,
            chunks,
        };
        block.sealed()
    }

    /// The chunk that follows `before` in its shard.
    fn chunk(&self, before: &Chunk, executed: &ExecutedChunk) -> Chunk {
        let ExecutedChunk { shard_id, transactions, incoming, result } = executed;
        let gas_used =
            result.outcomes.iter().fold(Gas::ZERO, |sum, outcome| sum.saturating_add(outcome.outcome.gas_burnt));
        let outcomes: Vec<_> = result.outcomes.iter().map(|outcome| outcome.to_hashes()).collect();
        let receipts_length: usize = incoming.iter().filter_map(|receipt| borsh::object_length(receipt).ok()).sum();
        let transactions_length: u64 = transactions.iter().map(|tx| tx.get_size()).sum();
        Chunk {
            hash: CryptoHash::default(),
            shard_id: *shard_id,
            prev_state_root: before.state_root,
            state_root: result.state.root(),
            outcome_root: CryptoHash::hash_borsh(outcomes),
            transactions: transactions.clone(),
            receipts: incoming.to_vec(),
            gas_used,
            gas_limit: self.rules.gas_limit,
            balance_burnt: result.burnt,
            congestion: result.congestion,
            encoded_length: transactions_length + receipts_length as u64,
        }
    }

    /// Hash of the block `depth` below a height; genesis stands for all that would be below it.
    fn hash_below(&self, height: u64, depth: u64) -> CryptoHash {
        self.history.hash_at(height.saturating_sub(depth)).expect("blocks have no holes")
    }

    fn epoch_id(&self, epoch_height: u64) -> EpochId {
        EpochId(CryptoHash::hash_borsh((self.genesis.hash(), epoch_height)))
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
            .find(chunk_hash, |record| record.block.chunk_by_hash(chunk_hash).map(|_| Arc::clone(&record.block)))
    }

    /// State after the block of this height; `None` above the head or once collected.
    pub fn state_at(&self, height: u64) -> Option<StateView> {
        let below_head = usize::try_from(self.head().height.checked_sub(height)?).ok()?;
        let state = |(&shard_id, shard): (&ShardId, &Shard)| {
            let position = shard.states.len().checked_sub(below_head + 1)?;
            Some((shard_id, shard.states.get(position)?.clone()))
        };
        let states = self.shards.iter().map(state).collect::<Option<_>>()?;
        let block = self.block_at(height)?;
        let block = BlockContext {
            height,
            timestamp_ns: block.timestamp_ns,
            epoch_height: block.epoch_height,
            gas_price: block.gas_price,
            random_seed: block.random_value,
        };
        Some(StateView::new(states, ViewContext { rules: Arc::clone(&self.rules), block }))
    }

    /// A transaction in a published block, or fixed in a chunk of the next.
    pub fn transaction(&self, hash: &CryptoHash) -> Option<TransactionRecord> {
        self.transactions(hash).next()
    }

    /// Every place where a transaction is: one that was invalid in a chunk may be in another one too.
    pub fn transactions(&self, hash: &CryptoHash) -> impl Iterator<Item = TransactionRecord> {
        let fixed = self.fixed.get(hash);
        let fixed = fixed.map(|tx| TransactionRecord { transaction: Arc::clone(tx), included: None });
        fixed.into_iter().chain(self.history.find_all(hash, |record| {
            let transaction = record.transaction(hash)?;
            Some(TransactionRecord { transaction, included: Some((record.block.height, record.block.hash)) })
        }))
    }

    /// The outcome of a transaction's conversion or of a receipt, in a published block. Of several it is the one that a
    /// node shows.
    pub fn outcome(&self, id: &CryptoHash) -> Option<Arc<OutcomeRecord>> {
        shown(self.outcomes(id))
    }

    /// Every outcome of an id: a transaction that was invalid in a chunk has another one if it landed after all.
    pub fn outcomes(&self, id: &CryptoHash) -> impl Iterator<Item = Arc<OutcomeRecord>> {
        self.history.find_all(id, |record| record.outcome(id))
    }

    /// A receipt that was executed or waits to be.
    pub fn receipt(&self, id: &CryptoHash) -> Option<Arc<Receipt>> {
        self.waiting.get(id).cloned().or_else(|| self.history.find(id, |record| record.receipt(id)))
    }
}

/// The outcome that a node shows of an id's several: the one of the lowest block hash, be it the newest or not. Source:
/// nearcore `chain/chain/src/store`, `get_outcomes_by_id`, whose keys are sorted by it, and `get_execution_outcome`.
pub(crate) fn shown(outcomes: impl Iterator<Item = Arc<OutcomeRecord>>) -> Option<Arc<OutcomeRecord>> {
    outcomes.min_by_key(|record| record.block_hash)
}

/// How many blocks are dropped at once.
fn segment(genesis: &Genesis, retention: Retention) -> Option<u64> {
    retention.epochs.filter(|_| !retention.archival).map(|_| genesis.epoch_length)
}

/// Rules and states of a genesis.
fn begin(genesis: &Genesis) -> Result<(Arc<Rules>, BTreeMap<ShardId, ShardState>), ChainError> {
    genesis.validate()?;
    let rules = Rules::new(genesis).map_err(ChainError::ContractCache)?;
    let states = genesis_states(&rules, genesis)?;
    Ok((Arc::new(rules), states))
}

/// The price after a block: more than half of what its chunks may burn raises it, less lowers it.
/// Source: nearcore `core/primitives/src/block.rs`, `compute_next_gas_price`.
fn next_gas_price(current: Balance, used: u128, limit: u128, min: Balance) -> Balance {
    let numerator = (2 * GAS_PRICE_ADJUSTMENT - 1) * limit + 2 * used;
    let next = current.as_yoctonear().saturating_mul(numerator) / (2 * GAS_PRICE_ADJUSTMENT * limit);
    let min = min.as_yoctonear();
    Balance::from_yoctonear(next.clamp(min, min.saturating_mul(MAX_GAS_PRICE_FACTOR)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many states a shard keeps after that many blocks which change that many keys each.
    fn kept(blocks: u64, changes: u8, first_kept: u64) -> usize {
        let mut shard = Shard::at_genesis(ShardState::default());
        for height in 1..=blocks {
            let mut update = Update::new(shard.state().clone());
            for key in 0..changes {
                update.set_raw(vec![key], height.to_le_bytes().as_slice().into());
            }
            update.commit();
            shard.push(update.finish(), height, first_kept);
        }
        shard.states.len()
    }

    #[test]
    fn every_state_of_an_idle_chain_is_kept_and_of_a_loaded_one_the_latest_until_they_are_collected() {
        assert_eq!(kept(5000, 0, 0), 5001);
        assert_eq!(kept(5000, 50, 0), CHANGES_AT_MOST / 50);
        assert_eq!(kept(2000, 200, 0), STATES_AT_LEAST);
        assert_eq!(kept(2000, 0, 1990), 11);
        assert_eq!(kept(2000, 200, 1990), 11);
    }
}
