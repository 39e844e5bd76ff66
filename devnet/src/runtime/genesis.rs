//! The state that a genesis describes.

use near_primitives::account::{AccessKey, Account, AccountContract};
use near_primitives::hash::CryptoHash;
use near_primitives::trie_key::TrieKey;
use near_primitives::types::Balance;

use super::Rules;
use super::actions::key_storage;
use super::verify::lack_for_storage;
use crate::genesis::{Genesis, GenesisError};
use crate::state::{ShardState, Update};

/// Writes the accounts of a valid genesis.
pub(crate) fn genesis_state(rules: &Rules, genesis: &Genesis) -> Result<ShardState, GenesisError> {
    let mut state = Update::new(ShardState::default());
    for described in &genesis.accounts {
        let account_id = &described.account_id;
        let mut storage = rules.config.fees.storage_usage_config.num_bytes_account;
        for public_key in &described.public_keys {
            let access_key = AccessKey::full_access();
            storage = storage.saturating_add(key_storage(&rules.config, public_key, &access_key));
            state.set_access_key(account_id, public_key, &access_key);
        }
        let contract = match &described.code {
            None => AccountContract::None,
            Some(code) => {
                storage = storage.saturating_add(code.len() as u64);
                let key = TrieKey::ContractCode { account_id: account_id.clone() }.to_vec();
                state.set_raw(key, code.as_slice().into());
                AccountContract::Local(CryptoHash::hash_bytes(code))
            }
        };
        let account = Account::new(described.balance, Balance::ZERO, contract, storage);
        if let Some(lack) = lack_for_storage(&rules.config, &account, account.amount()) {
            return Err(GenesisError::StorageStake {
                account_id: account_id.clone(),
                balance: described.balance,
                required: described.balance.saturating_add(lack),
            });
        }
        state.set_account(account_id, &account);
    }
    state.commit();
    Ok(state.finish())
}
