//! State: an ordered map from nearcore's trie keys to borsh values, one a shard.
//! Maps are persistent (structure is shared between versions): a version is cheap to clone, to keep and to drop.

use std::sync::Arc;

use near_crypto::PublicKey;
use near_primitives::account::{AccessKey, Account};
use near_primitives::types::{AccountId, NonceIndex};
use near_vm_runner::ContractCode;

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
        /// nearcore's debug text of the VM's error.
        message: String,
        /// Lines logged before it failed.
        logs: Vec<String>,
    },
}

/// An immutable state after one block. Cheap to clone, `Send`, independent of the chain's lock.
#[derive(Clone)]
pub struct StateView;

impl StateView {
    /// An account.
    pub fn account(&self, _account_id: &AccountId) -> Option<Account> {
        unimplemented!()
    }

    /// A key of an account. The nonces of a gas key are read by [`Self::gas_key_nonces`].
    pub fn access_key(&self, _account_id: &AccountId, _key: &PublicKey) -> Option<AccessKey> {
        unimplemented!()
    }

    /// All keys of an account.
    pub fn access_keys(&self, _account_id: &AccountId) -> Vec<(PublicKey, AccessKey)> {
        unimplemented!()
    }

    /// The nonces of a gas key by index; `None` where there is no such gas key.
    pub fn gas_key_nonces(
        &self,
        _account_id: &AccountId,
        _key: &PublicKey,
    ) -> Option<Vec<(NonceIndex, u64)>> {
        unimplemented!()
    }

    /// The contract of an account.
    pub fn code(&self, _account_id: &AccountId) -> Option<Arc<ContractCode>> {
        unimplemented!()
    }

    /// Contract data of an account whose keys begin with `prefix`, in order, as (key, value).
    pub fn data(&self, _account_id: &AccountId, _prefix: &[u8]) -> Vec<(Vec<u8>, Arc<[u8]>)> {
        unimplemented!()
    }

    /// Runs a view method.
    pub fn call(
        &self,
        _account_id: &AccountId,
        _method: &str,
        _args: &[u8],
    ) -> Result<ViewResult, ViewError> {
        unimplemented!()
    }
}
