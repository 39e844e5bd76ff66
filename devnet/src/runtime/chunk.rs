//! Executes the chunk of one shard: conversions, local receipts, delayed ones, incoming ones, within the limit.
//! Source: nearcore `runtime/runtime/src/lib.rs`, `apply` and `process_receipt`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use near_primitives::congestion_info::{CongestionControl, CongestionInfo};
use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use near_primitives::receipt::{DelayedReceiptIndices, Receipt, ReceivedData, VersionedReceiptEnum};
use near_primitives::transaction::{
    ExecutionMetadata, ExecutionOutcome, ExecutionOutcomeWithId, ExecutionStatus, SignedTransaction,
};
use near_primitives::trie_key::TrieKey;
use near_primitives::types::{Balance, Gas, ShardId};
use near_primitives::utils::create_receipt_id_from_transaction;

use super::fees::prepaid;
use super::verify::verify_and_charge;
use super::{BlockContext, Rules, receipts};
use crate::patch::Write;
use crate::state::{ShardState, Update};

/// A chunk under way: transactions converted so far, receipts still to come.
pub(crate) struct ChunkUnderWay {
    rules: Arc<Rules>,
    block: BlockContext,
    state: Update,
    congestion: CongestionInfo,
    outcomes: Vec<ExecutionOutcomeWithId>,
    local: Vec<Receipt>,
    outgoing: BTreeMap<ShardId, Vec<Receipt>>,
    other_executed: Vec<Receipt>,
    compute: u64,
    burnt: Balance,
    subsidized: Balance,
}

/// What a chunk led to.
pub(crate) struct ChunkResult {
    pub(crate) state: ShardState,
    pub(crate) congestion: CongestionInfo,
    /// Conversions first, then receipts in the order of their execution.
    pub(crate) outcomes: Vec<ExecutionOutcomeWithId>,
    /// Receipts for the next block, in order, by the shard of their receiver.
    pub(crate) outgoing: BTreeMap<ShardId, Vec<Receipt>>,
    /// Receipts executed that did not arrive with this chunk: local, delayed, postponed ones.
    pub(crate) other_executed: Vec<Receipt>,
    /// Tokens burnt, in yoctoNEAR.
    pub(crate) burnt: Balance,
    /// Tokens made from nothing, in yoctoNEAR.
    pub(crate) subsidized: Balance,
}

impl ChunkUnderWay {
    /// A chunk on top of a state, nothing done yet.
    pub(crate) fn new(rules: Arc<Rules>, block: BlockContext, base: ShardState, congestion: CongestionInfo) -> Self {
        Self {
            rules,
            block,
            state: Update::new(base),
            congestion,
            outcomes: Vec::new(),
            local: Vec::new(),
            outgoing: BTreeMap::new(),
            other_executed: Vec::new(),
            compute: 0,
            burnt: Balance::ZERO,
            subsidized: Balance::ZERO,
        }
    }

    /// Puts values into the state before all else.
    pub(crate) fn patch<'a>(&mut self, writes: impl Iterator<Item = &'a Write>) {
        for write in writes {
            self.state.set_raw(write.key.clone(), write.value.as_slice().into());
        }
        self.state.commit();
    }

    /// Whether another transaction may be converted: their gas is limited, the more so the more receipts are delayed.
    pub(crate) fn takes_transactions(&self) -> bool {
        let config = self.rules.config.congestion_control_config;
        let limit = CongestionControl::new(config, self.congestion, 0).process_tx_limit();
        self.compute < limit.as_gas()
    }

    /// Verifies a transaction, charges its signer and makes its receipt; an invalid one changes nothing.
    pub(crate) fn convert(&mut self, transaction: &SignedTransaction) -> Result<(), InvalidTxError> {
        let BlockContext { height, gas_price, .. } = self.block;
        let tx = &transaction.transaction;
        let charged = verify_and_charge(&self.rules, &self.state, tx, gas_price, Some(height))?;
        self.state.set_account(tx.signer_id(), &charged.signer);
        self.state.set_access_key(tx.signer_id(), tx.public_key(), &charged.access_key);
        self.state.commit();
        let receipt_id = create_receipt_id_from_transaction(transaction.hash(), height);
        let receipt = Receipt::from_tx(
            receipt_id,
            tx.signer_id().clone(),
            tx.receiver_id().clone(),
            tx.public_key().clone(),
            charged.cost.receipt_gas_price,
            tx.actions().to_vec(),
        );
        match tx.signer_id() == tx.receiver_id() {
            true => self.local.push(receipt),
            false => self.send(receipt),
        }
        self.compute = self.compute.saturating_add(charged.cost.burnt.compute);
        self.burnt = self.burnt.saturating_add(charged.cost.burnt_amount);
        self.outcomes.push(ExecutionOutcomeWithId {
            id: *transaction.hash(),
            outcome: ExecutionOutcome {
                logs: Vec::new(),
                receipt_ids: vec![receipt_id],
                gas_burnt: charged.cost.burnt.gas,
                compute_usage: Some(charged.cost.burnt.compute),
                tokens_burnt: charged.cost.burnt_amount,
                executor_id: tx.signer_id().clone(),
                status: ExecutionStatus::SuccessReceiptId(receipt_id),
                metadata: ExecutionMetadata::V1,
            },
        });
        Ok(())
    }

    /// Takes a transaction in as a chunk producer does that does not check it; `invalid` says what is wrong with it
    /// already. One that is invalid is in the chunk with its error as its outcome: it burns nothing, makes no receipt and
    /// leaves its nonce unused. Source: nearcore `runtime/runtime/src/lib.rs`, `process_transactions` and
    /// `register_outcome` (since protocol 83).
    pub(crate) fn include(&mut self, transaction: &SignedTransaction, invalid: Option<InvalidTxError>) {
        let Some(error) = invalid.or_else(|| self.convert(transaction).err()) else { return };
        // Only a node that admits a transaction calls it so.
        let error = match error {
            InvalidTxError::SignerDoesNotExist { signer_id } => {
                InvalidTxError::InvalidSignerId { signer_id: signer_id.into() }
            }
            error => error,
        };
        self.outcomes.push(ExecutionOutcomeWithId::failed(transaction, error));
    }

    /// Executes the receipts and closes the chunk.
    pub(crate) fn execute(mut self, incoming: &[Receipt]) -> ChunkResult {
        let mut queue: DelayedReceiptIndices = self.state.get(&TrieKey::DelayedReceiptIndices).unwrap_or_default();
        let queue_before = (queue.first_index, queue.next_available_index);
        for receipt in std::mem::take(&mut self.local) {
            match self.is_full() {
                true => self.delay(&mut queue, &receipt),
                false => self.process(receipt, true),
            }
        }
        while queue.first_index < queue.next_available_index && !self.is_full() {
            let key = TrieKey::DelayedReceipt { index: queue.first_index };
            let receipt: Receipt = self.state.take(&key).expect("the queue has no holes");
            queue.first_index += 1;
            self.count_delayed(&receipt, false);
            self.process(receipt, true);
        }
        for receipt in incoming {
            match self.is_full() {
                true => self.delay(&mut queue, receipt),
                false => self.process(receipt.clone(), false),
            }
        }
        if queue_before != (queue.first_index, queue.next_available_index) {
            self.state.set(&TrieKey::DelayedReceiptIndices, &queue);
        }
        self.state.commit();
        ChunkResult {
            state: self.state.finish(),
            congestion: self.congestion,
            outcomes: self.outcomes,
            outgoing: self.outgoing,
            other_executed: self.other_executed,
            burnt: self.burnt,
            subsidized: self.subsidized,
        }
    }

    /// Sends a receipt to its receiver's shard, whose next chunk executes it. nearcore also holds
    /// back what that shard has no bandwidth for.
    fn send(&mut self, receipt: Receipt) {
        let shard_id = self.rules.layout.account_id_to_shard_id(receipt.receiver_id());
        self.outgoing.entry(shard_id).or_default().push(receipt);
    }

    fn is_full(&self) -> bool {
        self.compute >= self.rules.gas_limit.as_gas()
    }

    fn delay(&mut self, queue: &mut DelayedReceiptIndices, receipt: &Receipt) {
        self.state.set(&TrieKey::DelayedReceipt { index: queue.next_available_index }, receipt);
        queue.next_available_index += 1;
        self.count_delayed(receipt, true);
    }

    /// Counts a receipt in or out of the congestion that delayed receipts make.
    fn count_delayed(&mut self, receipt: &Receipt, enters: bool) {
        let bytes = borsh::object_length(receipt).expect("measuring does not fail") as u64;
        let gas = self.congestion_gas(receipt);
        let counted = match enters {
            true => self.congestion.add_receipt_bytes(bytes).and(self.congestion.add_delayed_receipt_gas(gas)),
            false => self.congestion.remove_receipt_bytes(bytes).and(self.congestion.remove_delayed_receipt_gas(gas)),
        };
        counted.expect("the counters hold what is in the queue");
    }

    fn congestion_gas(&self, receipt: &Receipt) -> Gas {
        match receipt.versioned_receipt() {
            VersionedReceiptEnum::Action(action) => {
                prepaid(&self.rules.config, self.rules.protocol_version, action.actions(), receipt.receiver_id())
                    .expect("limited by validation")
            }
            _ => Gas::ZERO,
        }
    }

    /// Processes a receipt and whatever it makes that must follow at once. `elsewhere` says that the receipt is not
    /// among those that arrived with the chunk.
    fn process(&mut self, receipt: Receipt, elsewhere: bool) {
        let mut instant = VecDeque::from([(receipt, elsewhere)]);
        while let Some((receipt, elsewhere)) = instant.pop_front() {
            let Some((receipt, elsewhere)) = self.ready(receipt, elsewhere) else {
                continue;
            };
            let executed = receipts::execute(&self.rules, &self.block, &mut self.state, &receipt);
            self.compute = self.compute.saturating_add(executed.compute);
            self.burnt = self.burnt.saturating_add(executed.burnt);
            self.subsidized = self.subsidized.saturating_add(executed.subsidized);
            self.outcomes.push(executed.outcome);
            if elsewhere {
                self.other_executed.push(receipt);
            }
            for receipt in executed.new_receipts {
                match receipt.is_instant_receipt() {
                    true => instant.push_back((receipt, true)),
                    false => self.send(receipt),
                }
            }
        }
    }

    /// The receipt to execute now that this one is here: itself, one that waited for it, or none yet.
    fn ready(&mut self, receipt: Receipt, elsewhere: bool) -> Option<(Receipt, bool)> {
        let ready = match receipt.versioned_receipt() {
            VersionedReceiptEnum::Data(data) => {
                let received = ReceivedData { data: data.data.clone() };
                return self.receive(&receipt, data.data_id, &received).map(|postponed| (postponed, true));
            }
            VersionedReceiptEnum::Action(action) => self.postpone(&receipt, action.input_data_ids()),
            _ => panic!("devnet makes neither yields nor global contracts"),
        };
        ready.then_some((receipt, elsewhere))
    }

    /// Whether all data of a receipt are there; if not it is put aside.
    fn postpone(&mut self, receipt: &Receipt, input_data_ids: &[CryptoHash]) -> bool {
        let receiver_id = receipt.receiver_id();
        let receipt_id = *receipt.receipt_id();
        let mut missing = 0u32;
        for &data_id in input_data_ids {
            if !self.state.contains(&TrieKey::ReceivedData { receiver_id: receiver_id.clone(), data_id }) {
                missing += 1;
                let key = TrieKey::PostponedReceiptId { receiver_id: receiver_id.clone(), data_id };
                self.state.set(&key, &receipt_id);
            }
        }
        if missing > 0 {
            let count = TrieKey::PendingDataCount { receiver_id: receiver_id.clone(), receipt_id };
            self.state.set(&count, &missing);
            self.state.set(&TrieKey::PostponedReceipt { receiver_id: receiver_id.clone(), receipt_id }, receipt);
            self.state.commit();
        }
        missing == 0
    }

    /// Keeps data for the receipt that wants them, and returns that receipt if they were the last.
    fn receive(&mut self, receipt: &Receipt, data_id: CryptoHash, received: &ReceivedData) -> Option<Receipt> {
        let receiver_id = receipt.receiver_id();
        self.state.set(&TrieKey::ReceivedData { receiver_id: receiver_id.clone(), data_id }, received);
        let waiting = TrieKey::PostponedReceiptId { receiver_id: receiver_id.clone(), data_id };
        let ready = self.state.take::<CryptoHash>(&waiting).and_then(|receipt_id| {
            let count = TrieKey::PendingDataCount { receiver_id: receiver_id.clone(), receipt_id };
            let pending: u32 = self.state.take(&count).expect("a postponed receipt has a count");
            if pending > 1 {
                self.state.set(&count, &(pending - 1));
                return None;
            }
            let key = TrieKey::PostponedReceipt { receiver_id: receiver_id.clone(), receipt_id };
            Some(self.state.take::<Receipt>(&key).expect("a postponed receipt is in the state"))
        });
        self.state.commit();
        ready
    }
}
