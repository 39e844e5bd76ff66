//! Runs view methods on a state that stays as it is. Source: nearcore `runtime/runtime/src/state_viewer`.

use std::rc::Rc;
use std::sync::Arc;

use near_crypto::{KeyType, PublicKey};
use near_primitives::account::Account;
use near_primitives::config::ViewConfig;
use near_primitives::hash::CryptoHash;
use near_primitives::trie_key::TrieKey;
use near_primitives::types::{AccountId, Balance};
use near_vm_runner::logic::{ReturnData, VMContext};

use super::contract::{local_contract, run};
use super::external::ContractExternal;
use super::{BlockContext, Rules};
use crate::state::{ShardState, Update};

/// What a view call returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewResult {
    /// The returned bytes.
    pub value: Vec<u8>,
    /// Lines logged.
    pub logs: Vec<String>,
}

/// Why a view call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// No such account.
    #[error("account {0} does not exist while viewing")]
    NoAccount(AccountId),
    /// The account has no contract.
    #[error("account {0} has no contract")]
    NoContract(AccountId),
    /// The contract failed; `message` as nearcore prints it.
    #[error("{message}")]
    Execution {
        /// nearcore's text, with the debug form of the VM's error.
        message: String,
        /// Lines logged before it failed.
        logs: Vec<String>,
    },
}

/// What a view call needs besides the state.
#[derive(Clone)]
pub(crate) struct ViewContext {
    pub(crate) rules: Arc<Rules>,
    pub(crate) block: BlockContext,
}

/// Runs `method` of `account_id` on `state`; what it writes is forgotten.
pub(crate) fn call(
    context: &ViewContext,
    state: &ShardState,
    account_id: &AccountId,
    method: &str,
    args: &[u8],
) -> Result<ViewResult, ViewError> {
    let ViewContext { rules, block } = context;
    let key = TrieKey::Account { account_id: account_id.clone() };
    let account: Account = state.get(&key).ok_or_else(|| ViewError::NoAccount(account_id.clone()))?;
    let hash = local_contract(&account).ok_or_else(|| ViewError::NoContract(account_id.clone()))?;
    let gas = rules.config.wasm_config.limit_config.max_gas_burnt;
    let vm_context = VMContext {
        current_account_id: account_id.clone(),
        signer_account_id: account_id.clone(),
        signer_account_pk: borsh::to_vec(&PublicKey::empty(KeyType::ED25519)).expect("writing to memory does not fail"),
        predecessor_account_id: account_id.clone(),
        refund_to_account_id: account_id.clone(),
        input: Rc::from(args),
        // Made and dropped on one thread, which the VM's type cannot say.
        #[allow(clippy::arc_with_non_send_sync)]
        promise_results: Arc::new([]),
        block_height: block.height,
        block_timestamp: block.timestamp_ns,
        epoch_height: block.epoch_height,
        account_balance: account.amount(),
        account_locked_balance: account.locked(),
        storage_usage: account.storage_usage(),
        account_contract: account.contract().into_owned(),
        attached_deposit: Balance::ZERO,
        prepaid_gas: gas,
        random_seed: block.random_seed.as_bytes().to_vec(),
        view_config: Some(ViewConfig { max_gas_burnt: gas }),
        output_data_receivers: Vec::new(),
    };
    let mut update = Update::new(state.clone());
    let mut external =
        ContractExternal::new(&mut update, account_id.clone(), &rules.chain_id, CryptoHash::default(), block.height);
    let failed = |error: &dyn std::fmt::Debug, logs| {
        Err(ViewError::Execution { message: format!("wasm execution failed with error: {error:?}"), logs })
    };
    let read = |key: &[u8]| state.get_raw(key).cloned();
    match run(rules, hash, read, method, &vm_context, &mut external) {
        Err(unsupported) => failed(&unsupported, Vec::new()),
        Ok(outcome) => match outcome.aborted {
            Some(error) => failed(&error, outcome.logs),
            None => {
                let value = match outcome.return_data {
                    ReturnData::Value(value) => value,
                    ReturnData::ReceiptIndex(_) | ReturnData::None => Vec::new(),
                };
                Ok(ViewResult { value, logs: outcome.logs })
            }
        },
    }
}
