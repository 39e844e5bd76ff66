//! `EXPERIMENTAL_changes`: what a block changed, and why.
//!
//! The chain keeps states and not changes, so they are read off the block: its transactions move their signers'
//! keys, its receipts add and delete keys and touch accounts; what was put in by hand has nearcore's cause for it. An account's several changes in one block are shown as
//! the last of them, with the state after the block.

use super::{
    block,
    params::read,
    site::{Sight, Site},
    value,
};
use crate::{block::Block, patch::Write, state::StateView};
use near_crypto::{PublicKey, PublicKeyHandle};
use near_jsonrpc_primitives::{
    errors::RpcError,
    types::changes::{RpcStateChangesError, RpcStateChangesInBlockByTypeRequest, RpcStateChangesInBlockResponse},
};
use near_primitives::{
    hash::CryptoHash,
    receipt::{Receipt, ReceiptEnum},
    state_record::StateRecord,
    transaction::{Action, ExecutionStatus, SignedTransaction},
    types::AccountId,
    views::{
        AccessKeyView, StateChangeCauseView, StateChangeValueView, StateChangeWithCauseView, StateChangesRequestView,
    },
};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn changes(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let request: RpcStateChangesInBlockByTypeRequest = read(params)?;
    let chain = node.chain();
    let block = block::find(&chain, &request.block_reference)
        .map_err(|error_message| RpcStateChangesError::UnknownBlock { error_message })?;
    let happened = Happened::read(&chain, &block);
    let states = chain.state_at(block.height).map(|after| (chain.state_before(block.height), after));
    drop(chain);
    let collected = || RpcStateChangesError::UnknownBlock { error_message: format!("STATE: {}", block.hash) };
    let (before, after) = states.ok_or_else(collected)?;
    let changes = match request.state_changes_request {
        StateChangesRequestView::SingleAccessKeyChanges { keys } => {
            happened.keys(&after, |account, key| keys.iter().any(|k| k.account_id == *account && k.public_key == *key))
        }
        StateChangesRequestView::AllAccessKeyChanges { account_ids } => {
            happened.keys(&after, |account, _| account_ids.contains(account))
        }
        StateChangesRequestView::AccountChanges { account_ids } => {
            happened.accounts(&account_ids, &before.ok_or_else(collected)?, &after)
        }
        StateChangesRequestView::ContractCodeChanges { .. } | StateChangesRequestView::DataChanges { .. } => {
            let error_message = "devnet shows changes of accounts and access keys only".to_owned();
            return Err(RpcStateChangesError::InternalError { error_message }.into());
        }
    };
    value(RpcStateChangesInBlockResponse { block_hash: block.hash, changes })
}

/// What took effect in a block, in order.
struct Happened {
    /// What was put into the state by hand, which comes first.
    patch: Vec<Write>,
    transactions: Vec<Arc<SignedTransaction>>,
    receipts: Vec<(Arc<Receipt>, bool)>,
}

impl Happened {
    fn read(chain: &Sight<'_>, block: &Block) -> Self {
        let succeeded = |id: &CryptoHash| {
            chain.outcome_in(block.height, id).is_some_and(|record| {
                !matches!(record.outcome.outcome.status, ExecutionStatus::Failure(_) | ExecutionStatus::Unknown)
            })
        };
        let transactions: Vec<_> = block.transactions().filter(|tx| succeeded(&tx.get_hash())).cloned().collect();
        // A transaction to oneself makes a receipt that is executed in the same chunk, before those that came in.
        let local = transactions.iter().filter(|tx| tx.transaction.signer_id() == tx.transaction.receiver_id());
        let local = local.filter_map(|tx| {
            let record = chain.outcome_in(block.height, &tx.get_hash())?;
            chain.receipt(record.outcome.outcome.receipt_ids.first()?)
        });
        let incoming = block.receipts().cloned().map(Arc::new);
        let receipts = local
            .chain(incoming)
            .filter(|receipt| chain.outcome_in(block.height, receipt.receipt_id()).is_some())
            .map(|receipt| {
                let succeeded = succeeded(receipt.receipt_id());
                (receipt, succeeded)
            })
            .collect();
        Self { patch: chain.patch_in(block.height), transactions, receipts }
    }

    fn keys(
        &self,
        after: &StateView,
        wanted: impl Fn(&AccountId, &PublicKey) -> bool,
    ) -> Vec<StateChangeWithCauseView> {
        let mut changes = Vec::new();
        for write in &self.patch {
            let Some(StateRecord::AccessKey { account_id, public_key, access_key }) = write.record() else { continue };
            let public_key = match public_key {
                PublicKeyHandle::ED25519(key) => PublicKey::ED25519(key),
                PublicKeyHandle::SECP256K1(key) => PublicKey::SECP256K1(key),
                // Nobody can ask for a key of which there is only a hash.
                PublicKeyHandle::MlDsa65(_) => continue,
            };
            if wanted(&account_id, &public_key) {
                let value = key_update(&account_id, &public_key, access_key.into());
                changes.push(StateChangeWithCauseView { cause: StateChangeCauseView::Migration, value });
            }
        }
        for tx in &self.transactions {
            let (account_id, public_key) = (tx.transaction.signer_id(), tx.transaction.public_key());
            if wanted(account_id, public_key)
                && let Some(key) = after.access_key(account_id, public_key)
            {
                let access_key = AccessKeyView { nonce: tx.transaction.nonce().nonce(), ..key.into() };
                changes.push(StateChangeWithCauseView {
                    cause: StateChangeCauseView::TransactionProcessing { tx_hash: tx.get_hash() },
                    value: key_update(account_id, public_key, access_key),
                });
            }
        }
        for (receipt, succeeded) in &self.receipts {
            let ReceiptEnum::Action(action_receipt) = receipt.receipt() else {
                continue;
            };
            for action in action_receipt.actions.iter().filter(|_| *succeeded) {
                let account_id = receipt.receiver_id();
                let value = match action {
                    Action::AddKey(add) if wanted(account_id, &add.public_key) => {
                        let Some(key) = after.access_key(account_id, &add.public_key) else {
                            continue;
                        };
                        key_update(account_id, &add.public_key, key.into())
                    }
                    Action::DeleteKey(delete) if wanted(account_id, &delete.public_key) => {
                        StateChangeValueView::AccessKeyDeletion {
                            account_id: account_id.clone(),
                            public_key: delete.public_key.clone().into(),
                        }
                    }
                    _ => continue,
                };
                let cause = StateChangeCauseView::ReceiptProcessing { receipt_hash: *receipt.receipt_id() };
                changes.push(StateChangeWithCauseView { cause, value });
            }
        }
        changes
    }

    fn accounts(&self, wanted: &[AccountId], before: &StateView, after: &StateView) -> Vec<StateChangeWithCauseView> {
        let change = |account_id: &AccountId| {
            let (old, new) = (before.account(account_id), after.account(account_id));
            if old == new {
                return None;
            }
            let receipt = self.receipts.iter().rev().find(|(receipt, _)| receipt.receiver_id() == account_id);
            let transaction = self.transactions.iter().rev().find(|tx| tx.transaction.signer_id() == account_id);
            let cause = match (receipt, transaction) {
                (Some((receipt, _)), _) => {
                    StateChangeCauseView::ReceiptProcessing { receipt_hash: *receipt.receipt_id() }
                }
                (None, Some(tx)) => StateChangeCauseView::TransactionProcessing { tx_hash: tx.get_hash() },
                (None, None) if self.patch.iter().any(|write| write.account_id == *account_id) => {
                    StateChangeCauseView::Migration
                }
                (None, None) => StateChangeCauseView::InitialState,
            };
            let account_id = account_id.clone();
            let value = match new {
                Some(account) => StateChangeValueView::AccountUpdate { account_id, account: account.into() },
                None => StateChangeValueView::AccountDeletion { account_id },
            };
            Some(StateChangeWithCauseView { cause, value })
        };
        wanted.iter().filter_map(change).collect()
    }
}

fn key_update(account_id: &AccountId, public_key: &PublicKey, access_key: AccessKeyView) -> StateChangeValueView {
    StateChangeValueView::AccessKeyUpdate {
        account_id: account_id.clone(),
        public_key: public_key.clone().into(),
        access_key,
    }
}
