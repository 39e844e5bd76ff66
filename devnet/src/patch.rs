//! State that is put in by hand: the records of `sandbox_patch_state` as values of the trie, checked.
//!
//! A patch takes effect before all else in the next chunks, and is part of the chain: it is in the log. Balances and
//! storage are as they are given; nobody pays for them, and the supply that headers tell does not know of them.
//! Source: nearcore `runtime/runtime/src/lib.rs`, `apply_state_patch`.

use std::collections::HashMap;

use borsh::{BorshDeserialize, BorshSerialize};
use near_primitives::account::AccessKeyPermission;
use near_primitives::hash::CryptoHash;
use near_primitives::state_record::StateRecord;
use near_primitives::trie_key::TrieKey;
use near_primitives::types::AccountId;

/// A value of the trie.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Write {
    /// The account that it belongs to, which says the shard.
    pub account_id: AccountId,
    /// The raw key.
    pub key: Vec<u8>,
    /// The raw value.
    pub value: Vec<u8>,
}

impl Write {
    fn new(account_id: AccountId, key: &TrieKey, value: Vec<u8>) -> Self {
        Self { account_id, key: key.to_vec(), value }
    }

    /// The record that it was made from.
    pub fn record(&self) -> Option<StateRecord> {
        StateRecord::from_raw_key_value(&self.key, self.value.clone())
    }
}

/// A record that cannot be put into the state. nearcore ends at the same records, all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The record is of a kind that a sandbox does not take.
    #[error("records[{index}] is {kind}: give records of the kinds Account, AccessKey, Contract and Data")]
    Kind {
        /// Its place in the list.
        index: usize,
        /// What it is.
        kind: &'static str,
    },
    /// The contract is not the one that its account names.
    #[error(
        "records[{index}] is a contract of hash {hash}, and its account {account_id} {named}: give before it an Account \
         record whose code_hash is that hash"
    )]
    Contract {
        /// Its place in the list.
        index: usize,
        /// Hash of the code.
        hash: CryptoHash,
        /// Whose contract it should be.
        account_id: AccountId,
        /// What that account says of its contract.
        named: String,
    },
}

/// What a code hash says: `None` for an account that is not there, the default hash for one without a contract.
type CodeHash = Option<CryptoHash>;

/// The records as values, all or none. `code_hash` is that of an account before them.
///
/// # Errors
/// The first record that cannot be put into the state.
pub(crate) fn writes(
    records: Vec<StateRecord>,
    code_hash: impl Fn(&AccountId) -> CodeHash,
) -> Result<Vec<Write>, PatchError> {
    let mut given: HashMap<AccountId, CryptoHash> = HashMap::new();
    let to_vec = |value: borsh::io::Result<Vec<u8>>| value.expect("writing to memory does not fail");
    let mut writes = Vec::with_capacity(records.len());
    for (index, record) in records.into_iter().enumerate() {
        let unfit = |kind| PatchError::Kind { index, kind };
        writes.push(match record {
            StateRecord::Account { account_id, account } => {
                given.insert(account_id.clone(), account.local_contract_hash().unwrap_or_default());
                let key = TrieKey::Account { account_id: account_id.clone() };
                Write::new(account_id, &key, to_vec(borsh::to_vec(&account)))
            }
            StateRecord::AccessKey { account_id, public_key, access_key } => {
                if !matches!(
                    access_key.permission,
                    AccessKeyPermission::FullAccess | AccessKeyPermission::FunctionCall(_)
                ) {
                    return Err(unfit("a gas key, which devnet does not have"));
                }
                let key = TrieKey::access_key(account_id.clone(), public_key);
                Write::new(account_id, &key, to_vec(borsh::to_vec(&access_key)))
            }
            StateRecord::Contract { account_id, code } => {
                let hash = CryptoHash::hash_bytes(&code);
                let named = given.get(&account_id).copied().or_else(|| code_hash(&account_id));
                if named != Some(hash) {
                    let named = named.map_or("is not there".to_owned(), |named| format!("names {named}"));
                    return Err(PatchError::Contract { index, hash, account_id, named });
                }
                let key = TrieKey::ContractCode { account_id: account_id.clone() };
                Write::new(account_id, &key, code)
            }
            StateRecord::Data { account_id, data_key, value } => {
                let key = TrieKey::ContractData { account_id: account_id.clone(), key: data_key.into() };
                Write::new(account_id, &key, value.into())
            }
            StateRecord::PostponedReceipt(_) => return Err(unfit("a PostponedReceipt")),
            StateRecord::ReceivedData { .. } => return Err(unfit("ReceivedData")),
            StateRecord::DelayedReceipt(_) => return Err(unfit("a DelayedReceipt")),
            StateRecord::GasKeyNonce { .. } => return Err(unfit("a GasKeyNonce, which devnet does not have")),
        });
    }
    Ok(writes)
}
